"""Laws of the search: it finds, it repeats itself, it survives failing trials, it leaves nothing behind."""

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pipeline.ncsn.errors import UserError
from pipeline.search import Budget, Range, SearchStore, resources, search, search_here
from pipeline.search.records import FAILED, FINISHED, STOPPED, Settings, TrialRecord, best_trial

SPACE = {"x": Range(0.1, 10.0), "n": Range(1, 20)}
FIRST = {"x": 5.0, "n": 20}
BUDGET = Budget(num_trials=25, rungs=(1, 2, 3), reduction_factor=2, max_concurrent=1, seed=3)

pytestmark = pytest.mark.usefixtures("local_ray")


def bowl(settings: Settings, offset: float = 0.0) -> Iterator[dict[str, float]]:
    """A bowl with its minimum 0 at x = 1, n = 5, seen better at each rung."""
    value = math.log(settings["x"]) ** 2 + math.log(settings["n"] / 5) ** 2 + offset
    for rung in range(3):
        yield {"loss": value + 1 / (rung + 1), "rung": float(rung)}


def fragile(settings: Settings) -> Iterator[dict[str, float]]:
    if settings["n"] < 3:
        raise ArithmeticError("n is too small")
    yield {"loss": math.nan if settings["x"] > 2 else settings["x"]}
    if settings["n"] > 15:
        os.kill(os.getpid(), signal.SIGKILL)
    yield {"loss": settings["x"]}


def modules(settings: Settings, images: np.ndarray) -> Iterator[dict[str, float]]:
    yield {
        "loss": 0.0,
        "mlflow": float("mlflow" in sys.modules),
        "pid": float(os.getpid()),
        "sum": images.sum(),
    }


def slow(settings: Settings, parity: int, folder: str) -> Iterator[dict[str, float]]:
    """The bowl, seen late by trials of one parity of n; the first and another wait for each other."""
    marks = [Path(folder) / f"{name} of {parity}" for name in ("first", "another")]
    marks[settings != FIRST].touch()
    deadline = time.monotonic() + 200
    while not all(mark.exists() for mark in marks) and time.monotonic() < deadline:
        time.sleep(0.02)
    for metrics in bowl(settings):
        time.sleep(0.08 if settings["n"] % 2 == parity else 0.0)
        yield {**metrics, "pid": float(os.getpid())}


def decisions(records: list[TrialRecord]) -> list[tuple[object, ...]]:
    return [(r.trial, r.settings, [rung["loss"] for rung in r.rungs], r.status) for r in records]


def without_time(records: list[TrialRecord]) -> list[tuple[object, ...]]:
    return [(r.trial, r.settings, r.rungs, r.status, r.reason) for r in records]


def test_two_trials_at_a_time_repeat_themselves_whichever_is_faster(tmp_path: Path) -> None:
    budget = replace(BUDGET, num_trials=12, max_concurrent=2)
    runs, finished = [], []
    for parity in (0, 1):
        ended, held = list[int](), threading.Lock()  # which no pickle holds: a run is told of trials
        shared = {"parity": parity, "folder": str(tmp_path)}
        runs.append(
            search(
                slow, SPACE, metric="loss", budget=budget, points=[FIRST], shared=shared,
                on_trial=lambda record, ended=ended, held=held: ended.append(record.trial),
            )
        )  # fmt: skip
        finished.append(ended)
    assert decisions(runs[0]) == decisions(runs[1])
    here = search_here(bowl, SPACE, metric="loss", budget=budget, points=[FIRST])
    assert decisions(here) == decisions(runs[0]), "Ray Tune decides nothing"
    assert {record.status for record in runs[0]} == {FINISHED, STOPPED}
    assert len({record.metrics["pid"] for record in runs[0]}) == 2, "they did run side by side"
    assert finished[0] != finished[1], "and ended in another order, else the law above is empty"


def test_finds_the_minimum_and_repeats_itself_bit_for_bit() -> None:
    runs = [search(bowl, SPACE, metric="loss", budget=BUDGET, points=[FIRST]) for _ in range(2)]
    records = runs[0]
    assert without_time(records) == without_time(runs[1])
    here = search_here(bowl, SPACE, metric="loss", budget=BUDGET, points=[FIRST])
    assert without_time(records) == without_time(here)
    assert records[0].settings == FIRST and records[0].status == FINISHED
    assert [record.trial for record in records] == list(range(1, 26))
    winner = best_trial(records, "loss")
    assert winner.status == FINISHED
    assert winner.metrics["loss"] - 1 / 3 < 0.05 * (records[0].metrics["loss"] - 1 / 3)
    stopped = [record for record in records if record.status == STOPPED]
    assert stopped and all(1 <= len(record.rungs) < 3 for record in stopped)


def test_a_failing_trial_is_recorded_and_the_search_goes_on(tmp_path: Path) -> None:
    points = [{"x": 1.0, "n": 1}, {"x": 5.0, "n": 5}, {"x": 1.5, "n": 18}, {"x": 1.0, "n": 5}]
    seen: list[TrialRecord] = []
    budget = Budget(4, (1, 2), 2, 1, seed=0)
    again = partial(search, space=SPACE, metric="loss", budget=budget, points=points)
    store = SearchStore(tmp_path, "fragile")
    records = again(fragile, on_trial=seen.append, store=store)
    assert [record.status for record in records] == [FAILED, FAILED, FAILED, FINISHED]
    assert records[0].reason == "ArithmeticError: n is too small"
    assert "loss is nan at rung 1" in records[1].reason
    assert records[2].reason and len(records[2].rungs) == 1, "a killed process keeps the rungs it reported"
    assert best_trial(records, "loss") is records[3]
    assert without_time(seen) == without_time(records), "the caller hears of every trial, in its own process"
    assert again(fragile, store=store) == records, "what ran before runs no more: times are equal too"
    assert len(list(tmp_path.glob("search-fragile-*/trial_*.json"))) == 4


def test_all_trials_failing_is_the_users_to_mend() -> None:
    with pytest.raises(UserError, match="n is too small"):
        search(fragile, SPACE, metric="loss", budget=Budget(1, (1, 2), 2, 1, seed=0), points=[{"x": 1.0, "n": 1}])


def test_trials_share_one_process_without_mlflow_and_leave_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    images = np.ones((100, 8, 8), np.uint8)
    budget = Budget(num_trials=3, rungs=(1,), reduction_factor=2, max_concurrent=1, seed=0)
    records = search(modules, SPACE, metric="loss", budget=budget, shared={"images": images})
    assert {record.metrics["mlflow"] for record in records} == {0.0}
    assert {record.metrics["sum"] for record in records} == {6400.0}
    processes = {record.metrics["pid"] for record in records}
    assert len(processes) == 1 and os.getpid() not in processes
    assert not list(tmp_path.iterdir())


def test_a_trial_reserves_the_part_of_a_gpu_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: {"GPU": 2.0})
    assert resources(4, False, 0.25) == resources(4, False) == {"cpu": 1}
    assert resources(4, True) == {"cpu": 1, "gpu": 0.5}, "four at once on two"
    assert resources(5, True) == {"cpu": 1, "gpu": 1 / 3}
    assert resources(4, True, 0.25) == {"cpu": 1, "gpu": 0.25}


def test_metrics_of_different_rungs_are_never_compared() -> None:
    early = TrialRecord(1, {}, ({"loss": 0.1},), STOPPED)
    late = TrialRecord(2, {}, ({"loss": 0.3}, {"loss": 0.2}), FINISHED)
    assert best_trial([early, late], "loss") is late
