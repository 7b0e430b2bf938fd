"""How long the pipeline takes, what it holds in memory, and what it costs when there is nothing to do.

`python -m benchmarks.repro [--preset NAME] [--json FILE] [--keep]` runs HEAD in a temporary clone from
an empty cache, then compares a `dvc repro` with nothing to do to that of an empty pipeline of as many stages.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.clock import Line, stage_seconds
from benchmarks.memory import Watch
from benchmarks.pipelines import check, clone, environment, nothing, seconds_of_nothing

REPEATS = 7
MOST_RATIO, MOST_GB = 1.5, 3.0


def main() -> None:
    """Measure, print, write."""
    options = _options()
    folder = Path(tempfile.mkdtemp(prefix="ncsn-benchmark-"))
    try:
        found = measure(folder, options.preset)
    finally:
        sys.stderr.write(f"kept: {folder}\n") if options.keep else shutil.rmtree(folder)
    sys.stdout.write(table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.repro", description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", metavar="NAME", help="instead of the params.yaml of HEAD")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the numbers here as well")
    parser.add_argument("--keep", action="store_true", help="leave the temporary folder, and say where it is")
    return parser.parse_args()


def measure(folder: Path, preset: str | None) -> dict[str, Any]:
    """Every number, as plain data."""
    marker = uuid.uuid4().hex
    env = environment(folder, marker)
    about = {"machine": machine.describe(), "preset": preset or "params.yaml of HEAD"}
    pipeline = clone(folder, preset, env)
    commit = check(["git", "rev-parse", "--short", "HEAD"], pipeline, env).strip()
    with Watch(marker) as watch:
        run = repro(pipeline, env)
    return {**about, "commit": commit, **run, "memory": _memory(watch), "no_op": no_op(folder, pipeline, env)}


def repro(pipeline: Path, env: dict[str, str]) -> dict[str, Any]:
    """One whole `dvc repro`; its output goes to stderr as it comes."""
    start, lines = time.perf_counter(), list[Line]()
    with subprocess.Popen(
        ["dvc", "repro"], cwd=pipeline, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        for line in process.stdout or ():
            lines.append((time.perf_counter() - start, line))
            sys.stderr.write(line)
    if process.returncode:
        sys.exit(f"error: dvc repro ended with {process.returncode}")
    total = time.perf_counter() - start
    return {"stages": stage_seconds(lines, total), "seconds": round(total, 2)}


def _memory(watch: Watch) -> dict[str, Any]:
    largest = watch.largest
    return {
        "largest_gb": round(largest.bytes / 1e9, 3),
        "largest_command": largest.command[:120].strip(),
        "together_gb": round(watch.together / 1e9, 3),
        "processes": len(watch.peaks),
    }


def no_op(folder: Path, pipeline: Path, env: dict[str, str]) -> dict[str, Any]:
    """Both pipelines with nothing to do, in turns, so that a busy machine slows both."""
    stages = len(check(["dvc", "stage", "list", "--name-only"], pipeline, env).split())
    pair = pipeline, nothing(folder, stages, env)
    times = [[seconds_of_nothing(one, env) for one in pair] for _ in range(REPEATS)]
    ours, empty = (statistics.median(column) for column in zip(*times, strict=True))
    medians = {"seconds": round(ours, 3), "empty_seconds": round(empty, 3), "ratio": round(ours / empty, 3)}
    return {"stages": stages, **medians, "times": [[round(one, 3) for one in pair] for pair in times]}


def table(found: dict[str, Any]) -> str:
    """The numbers for a person."""
    host, memory, idle = found["machine"], found["memory"], found["no_op"]
    return "\n".join(
        [
            f"commit {found['commit']}, preset {found['preset']}",
            f"{host['cores']} cores, {host['cpu']}, {host['memory_gb']} GB, load {host['load_before']}",
            *(f"  {name:<18}{seconds:9.1f} s" for name, seconds in found["stages"].items()),
            f"  {'total':<18}{found['seconds']:9.1f} s",
            f"peak of one process {memory['largest_gb']:.2f} GB (target below {MOST_GB:g}): "
            f"{memory['largest_command']}",
            f"peak of all {memory['processes']} processes {memory['together_gb']:.2f} GB",
            f"nothing to do: {idle['seconds']:.2f} s; empty pipeline of {idle['stages']} stages: "
            f"{idle['empty_seconds']:.2f} s; ratio {idle['ratio']:.2f} (target at most {MOST_RATIO:g})\n",
        ]
    )


if __name__ == "__main__":
    main()
