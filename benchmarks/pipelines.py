"""The two pipelines compared, each in its own git repository: a clone of this one, and an empty one."""

import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.memory import MARKER

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
# A benchmark talks to nobody's cluster and nobody's tracking server.
FOREIGN = ("RAY_", "MLFLOW_", "DVC_")


def environment(folder: Path, marker: str) -> dict[str, str]:
    """This environment with this Python's programs first, the run's marker, and DVC's state in `folder`."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    path = f"{BIN}{os.pathsep}{own.get('PATH', '')}"
    ours = {"PATH": path, MARKER: marker, "DVC_SITE_CACHE_DIR": str(folder / "site"), "DVC_NO_ANALYTICS": "1"}
    return own | ours | {"PYTHONUNBUFFERED": "1", "VIRTUAL_ENV": str(BIN.parent)}


def clone(folder: Path, preset: str | None, env: dict[str, str]) -> Path:
    """HEAD of this repository, on a preset if one is named; its cache is empty."""
    made = folder / "clone"
    check(["git", "clone", "--quiet", str(ROOT), str(made)], folder, env)
    if preset:
        check([sys.executable, "-m", "pipeline.commands.preset", preset], made, env)
    return made


def nothing(folder: Path, stages: int, env: dict[str, str]) -> Path:
    """A chain of as many stages, each of which writes a file of two bytes; already run."""
    made = folder / "nothing"
    made.mkdir()
    check(["git", "init", "--quiet"], made, env)
    check(["dvc", "init", "--quiet"], made, env)
    (made / "0.txt").write_text("0\n")
    (made / "dvc.yaml").write_text("stages:\n" + "".join(map(_stage, range(1, stages + 1))))
    check(["dvc", "repro", "--quiet"], made, env)
    return made


def _stage(number: int) -> str:
    cmd = f"echo {number % 10} > {number}.txt"
    return f"  s{number}:\n    cmd: {cmd}\n    deps: [{number - 1}.txt]\n    outs: [{number}.txt]\n"


def seconds_of_nothing(pipeline: Path, env: dict[str, str]) -> float:
    """One `dvc repro` that has nothing to do."""
    start = time.perf_counter()
    told = check(["dvc", "repro"], pipeline, env)
    taken = time.perf_counter() - start
    if "up to date" not in told or "Running stage" in told:
        sys.exit(f"error: `dvc repro` in {pipeline} had something to do:\n{told}")
    return taken


def check(command: list[str], folder: Path, env: dict[str, str]) -> str:
    """What a command prints; its failure ends the benchmark."""
    done = subprocess.run(
        command, cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        sys.exit(f"error: {' '.join(command)} in {folder} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout
