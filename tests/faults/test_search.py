"""The driver of a search on a real Ray, killed in mid-search and run again."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.files import read_json

pytestmark = pytest.mark.faults
ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0
DRIVER = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from pipeline.distributed.cluster import connect
from pipeline.distributed.search import Budget, Kept, Range, search
from tests.faults.test_search import slow

place = Path(sys.argv[1])
space = {"x": Range(0.1, 10.0), "n": Range(1, 20)}
budget = Budget(10, (1, 2, 3), 2, 2, seed=3)
with connect(workers=2, cpus_per_worker=1, use_gpu=False):
    records = search(slow, space, metric="loss", budget=budget, shared={"place": str(place)},
                     kept=Kept(place, "slow"))
plain = [{**asdict(record), "seconds": 0} for record in records]
(place / "records.json").write_text(json.dumps(plain))
"""


def slow(settings: dict[str, float], place: str) -> Iterator[dict[str, float]]:
    """A trial that says that it ran."""
    if settings["n"] > 17:
        raise ArithmeticError("n is too large")
    for rung in range(3):
        time.sleep(0.2)
        if rung == 0:
            with (Path(place) / "begun").open("a") as file:
                file.write(f"{settings}\n")
        yield {"loss": abs(settings["x"] - 1) + settings["n"] / 10 + 1 / (rung + 1)}


class Driver:
    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir(exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        self.process = psutil.Popen(
            [sys.executable, "-c", DRIVER, str(place)], cwd=ROOT, env=environment, start_new_session=True
        )

    def journaled(self) -> list[Path]:
        return sorted(self.place.glob("search-slow-*/trial_*.json"))

    def kill_after(self, trials: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while len(self.journaled()) < trials:
            assert self.process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> str:
        assert self.process.wait(timeout=PATIENCE_S) == 0
        return (self.place / "records.json").read_text()


def begun(path: Path) -> int:
    """How often the trial of a file began."""
    settings = read_json(path)["record"]["settings"]
    return (path.parents[1] / "begun").read_text().splitlines().count(str(settings))


def test_the_driver_killed_twice_loses_no_trial_and_runs_none_twice(tmp_path: Path) -> None:
    undisturbed = Driver(tmp_path / "undisturbed").end()
    place, done = tmp_path / "killed", dict[Path, str]()
    ran: dict[Path, int] = {}
    for trials in (2, 6):
        driver = Driver(place)
        driver.kill_after(trials)
        done |= {path: path.read_text() for path in driver.journaled()}
        ran |= {path: begun(path) for path in done if path not in ran}
    assert Driver(place).end() == undisturbed
    assert all(path.read_text() == text for path, text in done.items()), "none was written anew"
    assert {path: begun(path) for path in done} == ran, "none ran once more"
