"""The stage `tune_noise` killed in mid-search, then `dvc repro`: the same files as undisturbed."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.files import read_yaml, write_yaml

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
PATIENCE_S = 300.0
REPRO = ("dvc", "repro", "--no-run-cache", "tune_noise")


class Checkout:
    """The files of this repository in a repository of their own, on few and short trials."""

    def __init__(self, place: Path) -> None:
        self.place = place
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        foreign = ("RAY_", "MLFLOW_", "DVC_")
        own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        self.environment = own | {
            "PATH": path,
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(place / "site"),
        }
        listed = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
        for name in filter(lambda name: (ROOT / name).is_file(), listed):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
        (place / "dvc.lock").unlink()
        self("git", "init", "-q")
        self(sys.executable, "-m", "pipeline.commands.preset", "digits_reduced")
        params = read_yaml(place / "params.yaml")
        params["tune_noise"] |= {"num_trials": 8, "rungs": [20, 60, 120]}
        write_yaml(place / "params.yaml", params)

    def __call__(self, *command: str) -> None:
        subprocess.run(command, cwd=self.place, env=self.environment, check=True, timeout=PATIENCE_S)

    def begin(self) -> psutil.Popen:
        return psutil.Popen(REPRO, cwd=self.place, env=self.environment, start_new_session=True)

    def found(self) -> dict[str, bytes]:
        """What the search decided; pictures name the version of their library."""
        folder = self.place / "artifacts/noise"
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".png"}

    def trials(self) -> dict[str, int]:
        """The trials that were written down, and when."""
        some = self.place.glob(".runs/search-tune_noise-*/trial_*.json")
        return {path.name: path.stat().st_mtime_ns for path in some}


def stage(dvc: psutil.Popen) -> psutil.Process:
    """The process of the stage, which DVC's shell started."""
    return next(p for p in dvc.children(recursive=True) if p.cmdline()[1:] == ["-m", "stages.tune_noise"])


def test_tune_noise_killed_loses_no_trial_and_dvc_repro_ends_in_the_same_files(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    checkout(*REPRO)
    undisturbed = checkout.found()
    (tmp_path / "dvc.lock").unlink()
    shutil.rmtree(tmp_path / "artifacts/noise")

    checkout("dvc", "repro", "reference")
    dvc = checkout.begin()
    deadline = time.monotonic() + PATIENCE_S
    while len(checkout.trials()) < 3:
        assert dvc.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    stage(dvc).kill()
    assert dvc.wait(timeout=PATIENCE_S) != 0 and not (tmp_path / "artifacts/noise").exists()
    known = checkout.trials()
    assert 3 <= len(known) < 8, "killed in mid-search"

    again = checkout.begin()
    while again.poll() is None:
        seen = checkout.trials()
        assert not seen or known.items() <= seen.items(), "no trial is written anew"
        time.sleep(0.05)
    assert again.returncode == 0 and checkout.found() == undisturbed
