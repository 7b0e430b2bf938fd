"""The drivers of searches on a real Ray, killed in mid-search and run again."""

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.files import read_json
from pipeline.ncsn.sampler import Sampler
from pipeline.search import Budget, SearchStore, sampler, search_here
from pipeline.search.records import TrialRecord
from pipeline.search.sampler_trial import SamplerSetup, trial
from pipeline.search.sampler_verdict import Baseline
from tests.search.searched import BOUNDS, Mixture, made

pytestmark = pytest.mark.faults
ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0
DRIVER = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from pipeline.cluster.connect import connect
from pipeline.search import Budget, SearchStore, Range, search
from tests.faults.test_search import slow

place = Path(sys.argv[1])
space = {"x": Range(0.1, 10.0), "n": Range(1, 20)}
budget = Budget(10, (1, 2, 3), 2, 2, seed=3)
with connect(workers=2, cpus_per_worker=1, use_gpu=False):
    records = search(slow, space, metric="loss", budget=budget, shared={"place": str(place)},
                     store=SearchStore(place, "slow"))
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
                file.write(f"0 {settings}\n")
        yield {"loss": abs(settings["x"] - 1) + settings["n"] / 10 + 1 / (rung + 1)}


SAMPLER_DRIVER = """
import sys
from pathlib import Path
from pipeline.search import sampler
from pipeline.cluster.connect import connect
from tests.faults.test_search import sampler_search, seen

sampler.trial = seen
with connect(workers=2, cpus_per_worker=1, use_gpu=False):
    sampler_search(Path(sys.argv[1]))
"""


@dataclass(frozen=True)
class Named(Mixture):
    """A score that knows where its search lies."""

    place: str


def seen(settings: dict[str, Any], setup: SamplerSetup) -> Iterator[Mapping[str, float]]:
    """A trial of the sampler search that says that it ran, and under which budget."""
    with (Path(setup.network.place) / "begun").open("a") as file:  # type: ignore[attr-defined]
        file.write(f"{setup.max_nfe} {settings}\n")
    for metrics in trial(settings, setup):
        time.sleep(0.1)
        yield {**metrics, "max_nfe": setup.max_nfe}


def sampler_search(place: Path) -> None:
    """A small search of samplers under two budgets, with the files of its stage and its samplers."""
    budget = Budget(5, (20, 40), 2, 2, seed=3)
    resources, store = {"cpu": 1}, SearchStore(place, "slow")
    setup = made(network=Named(str(place)), budget=budget)
    baseline = Baseline("slow", setup.network, Sampler.analytic(setup.trained, 2))
    found = sampler.tune(
        setup, budgets=(5, 21), bounds=BOUNDS, resources=resources, repeats=2, baseline=baseline, store=store,
    )  # fmt: skip
    folder = place / "found"
    folder.mkdir()
    found.write(folder)
    (folder / "samplers").write_text(repr({name: one.sampler for name, one in found.chosen.by_choice.items()}))


class Driver:
    def __init__(self, place: Path, program: str = DRIVER) -> None:
        self.place = place
        place.mkdir(exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        self.process = psutil.Popen(
            [sys.executable, "-c", program, str(place)], cwd=ROOT, env=environment, start_new_session=True
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

    def end(self) -> None:
        assert self.process.wait(timeout=PATIENCE_S) == 0


def begun(path: Path) -> int:
    """How often the trial of a file began."""
    record = read_json(path)["record"]
    name = f"{record['rungs'][0].get('max_nfe', 0) if record['rungs'] else 0} {record['settings']}"
    return (path.parents[1] / "begun").read_text().splitlines().count(name)


def killed_twice(place: Path, program: str, after: Sequence[int]) -> None:
    """Kill a driver when so many trials were written down, twice, and let it end: none is run once more."""
    done, ran = dict[Path, str](), dict[Path, int]()
    for trials in after:
        driver = Driver(place, program)
        driver.kill_after(trials)
        done |= {path: path.read_text() for path in driver.journaled()}
        ran |= {path: begun(path) for path in done if path not in ran}
    Driver(place, program).end()
    assert all(path.read_text() == text for path, text in done.items()), "none was written anew"
    assert {path: begun(path) for path in done} == ran, "none ran once more"


def test_the_driver_killed_twice_loses_no_trial_and_runs_none_twice(tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("undisturbed", "killed")]
    Driver(places[0]).end()
    killed_twice(places[1], DRIVER, (2, 6))
    undisturbed, killed = ((place / "records.json").read_text() for place in places)
    assert killed == undisturbed


def test_the_sampler_search_killed_in_each_of_its_budgets_ends_in_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(*arguments: Any, resources: Any, **options: Any) -> list[TrialRecord]:
        return search_here(*arguments, **options)

    killed_twice(tmp_path / "killed", SAMPLER_DRIVER, (2, 7))
    searches = {path.parent.name for path in (tmp_path / "killed").glob("search-slow-*/trial_*.json")}
    assert len(searches) == 2
    (tmp_path / "undisturbed").mkdir()
    monkeypatch.setattr(sampler, "search", here)
    monkeypatch.setattr(sampler, "trial", seen)
    sampler_search(tmp_path / "undisturbed")
    undisturbed, killed = (
        {path.name: path.read_bytes() for path in (tmp_path / name / "found").iterdir()}
        for name in ("undisturbed", "killed")
    )
    assert len(undisturbed) == 6 and killed == undisturbed
