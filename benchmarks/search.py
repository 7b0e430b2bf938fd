"""The search against random search at equal budget: what it takes to come within 5 % of the best known.

    python -m benchmarks.search tune_sampler --repeats 5
    python -m benchmarks.search tune_noise --repeats 5

Needs params.yaml, and in artifacts/ what the stage itself needs (`--root` is where they lie). Trials run one
after the other in this process, under the decisions that Ray Tune would carry out (`search_here`), each on
the samples of the stage's own seed; `--repeats` seeds propose. Random search knows no starting point and
carries every trial to the last rung: once until it has spent what the search of its seed did, and once for
`--random` trials. Trials are kept in .runs/: a run that was cut off goes on, and time is CPU time.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.asked import Asked, asked
from pipeline.search import SearchStore, Trial, noise, sampler, search_here
from pipeline.search.records import FINISHED, TrialRecord
from stages import tune_noise as noise_stage
from stages import tune_sampler as sampler_stage

NEAR = 1.05
MAINS = {"tune_noise": (noise_stage.main, noise), "tune_sampler": (sampler_stage.main, sampler)}
UNITS = {"tune_noise": "images seen", "tune_sampler": "network evaluations"}
EQUAL = "random search, equal budget"
WAYS = ("search", "search, no starting point", "search, random proposals", "random search")


def timed(settings: dict[str, Any], trial: Trial, **shared: Any) -> Iterator[dict[str, float]]:
    """A trial that also tells the CPU seconds it has taken."""
    start = time.process_time()
    for metrics in trial(settings, **shared):
        yield {**metrics, "cpu_s": time.process_time() - start}


def whole(settings: dict[str, Any], trial: Trial, **shared: Any) -> Iterator[dict[str, float]]:
    """A trial that is judged at its last rung alone."""
    *_, last = timed(settings, trial, **shared)
    yield last


def cost(stage: str, metrics: dict[str, float], batch_size: int) -> float:
    """What a trial took up to a rung, in the stage's resource."""
    if stage == "tune_noise":
        return metrics["steps"] * batch_size
    return metrics["samples"] * metrics["nfe"]


@dataclass(frozen=True)
class Run:
    """A repetition: for each trial its costs, and its FID where it reached the last rung."""

    costs: list[float]
    seconds: list[float]
    fids: list[float | None]

    def until(self, goal: float) -> int | None:
        """Trials up to the first within the goal."""
        return next((n for n, fid in enumerate(self.fids, 1) if fid is not None and fid <= goal), None)

    def within(self, budget: float) -> "Run":
        """Its trials until a budget is spent, the one that oversteps it among them."""
        count = next((n for n in range(len(self.costs)) if sum(self.costs[:n]) >= budget), len(self.costs))
        return Run(self.costs[:count], self.seconds[:count], self.fids[:count])

    @property
    def best(self) -> float:
        return min((fid for fid in self.fids if fid is not None), default=float("inf"))


def repeat(ask: Asked, way: str, seed: int, store: SearchStore, price: Callable[[dict[str, float]], float]) -> Run:
    """One repetition of a way to search."""
    budget = replace(ask.budget, seed=seed, algorithm="tpe" if way.startswith("search") else "random")
    if way == "search, random proposals":
        budget = replace(budget, algorithm="random")
    if way == "random search":
        budget = replace(budget, rungs=budget.rungs[-1:], num_trials=ask.random_trials)
    records = search_here(
        whole if way == "random search" else timed,
        ask.space,
        metric="fid",
        budget=budget,
        points=ask.points if way in ("search", "search, random proposals") else (),
        shared={**ask.shared, "trial": ask.trial},
        store=store,
    )
    return Run(
        [price(record.metrics) if record.rungs else 0.0 for record in records],
        [record.metrics.get("cpu_s", 0.0) for record in records],
        [_fid(record) for record in records],
    )


def _fid(record: TrialRecord) -> float | None:
    return record.metrics["fid"] if record.status == FINISHED else None


def row(way: str, runs: Sequence[Run], goal: float) -> str:
    """A way's line. What a success takes is all that the repetitions spent, each until it came near or to
    its end, divided by the number that came near (ERT of the COCO benchmarks, arXiv 1603.08785)."""
    counts = [run.until(goal) for run in runs]
    near = sum(count is not None for count in counts)

    def expected(parts: Callable[[Run], list[float]]) -> str:
        spent = sum(sum(parts(run)[:count]) for run, count in zip(runs, counts, strict=True))
        return f"{spent / near:,.0f}" if near else f"> {spent:,.0f}"

    best = ", ".join(f"{fid:.2f}" for fid in sorted(run.best for run in runs))
    total = statistics.median(sum(run.costs) for run in runs)
    cells = f"{best} | {near} of {len(runs)} | {expected(lambda run: run.costs)}"
    return f"| {way} | {total:,.0f} | {cells} | {expected(lambda run: run.seconds)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("stage", choices=MAINS)
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--trials", type=int, help="of a search; default: as the stage")
    parser.add_argument("--random", type=int, help="trials of random search; default: as many")
    parser.add_argument("--goal", type=float, help=f"FID to come to; default: {NEAR} times the best of all")
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    given = parser.parse_args()
    os.chdir(given.root)
    ask = asked(*MAINS[given.stage])[-1]
    count = given.trials or ask.budget.num_trials
    ask = replace(ask, budget=replace(ask.budget, num_trials=count), random_trials=given.random or count)
    batch = getattr(ask.shared["setup"], "batch_size", 0)
    store = SearchStore(Path(".runs"), "benchmark")
    runs: dict[str, list[Run]] = {}
    for way in given.ways:
        for seed in range(given.repeats):
            made = repeat(ask, way, seed, store, lambda metrics: cost(given.stage, metrics, batch))
            runs.setdefault(way, []).append(made)
            if way == "random search":
                spent = sum(runs["search"][seed].costs)
                runs.setdefault(EQUAL, []).append(made.within(spent))
    best = min(run.best for each in runs.values() for run in each)
    goal = given.goal or NEAR * best
    unit = UNITS[given.stage]
    sys.stdout.write(f"Goal: FID {goal:.2f}; the best of all: {best:.2f}.\n\n")
    sys.stdout.write(f"| way | {unit}, median | best FID, by seed | came near | {unit} a success | CPU s |\n")
    sys.stdout.write("| :-- | --: | :-- | --: | --: | --: |\n")
    for way, each in runs.items():
        sys.stdout.write(row(way, each, goal) + "\n")


if __name__ == "__main__":
    main()
