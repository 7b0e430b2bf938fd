"""The search for a training noise range: short trainings, judged by the samples they give.

It starts from the analytic choice and from points that are given by name, such as published ones. For levels
the analytic choice is by techniques 1 and 2 of NCSNv2 (arXiv 2006.09011, sections 3.1, 3.2). For the law of
sigma of a network without levels see `log_normal.analytic_law`.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.files import write_yaml
from pipeline.ncsn.errors import UserError
from pipeline.search import Range, SearchStore, search
from pipeline.search.log_normal import NoiseRange, searched
from pipeline.search.noise_trial import NoiseSetup, trial, trial_again
from pipeline.search.noise_verdict import Compared, compare, log_verdict
from pipeline.search.records import (
    FINISHED,
    OnTrial,
    Settings,
    TrialRecord,
    best_trial,
    write_csv,
    write_trials,
)

BOUNDS = {
    "sigma_max": "sigma_max_ratio",
    "sigma_min": "sigma_min_ratio",
    "num_levels": "num_levels_ratio",
    "p_mean": "p_mean_shift",
    "p_std": "p_std_ratio",
}
"""By setting, the key of params.yaml's `tune_noise` with its bounds."""
Ask = partial[list[TrialRecord]]
"""`search.search` with all but what differs between the searches of a stage."""


@dataclass(frozen=True)
class FoundNoise:
    """What the search found; every noise range with its last metrics."""

    records: list[TrialRecord]
    winner: NoiseRange
    compared: Compared
    """`tuned`, `analytic` and the other starting points side by side."""

    def write(self, folder: Path) -> None:
        """Write best.yaml, the ranges compared and the verdict, trials.csv and rungs.csv, and repeats.csv if
        trials were repeated."""
        lines = {name: line.plain() for name, line in self.compared.lines.items()}
        write_yaml(folder / "best.yaml", {**lines, "verdict": self.compared.verdict.plain()})
        write_trials(folder, self.records)
        if self.compared.again:
            write_csv(folder / "repeats.csv", list(self._repeats()))

    def _repeats(self) -> Iterator[Settings]:
        for number, some in self.compared.again.items():
            for record in some:
                seed = {"trial": number, "seed": record.settings["seed"]}
                yield from ({**seed, **{key: rung[key] for key in ("steps", "fid")}} for rung in record.rungs)


def tune(
    setup: NoiseSetup,
    start: NoiseRange,
    others: Mapping[str, NoiseRange],
    *,
    bounds: Mapping[str, Sequence[float]],
    resources: Mapping[str, float],
    repeats: int = 0,
    workers: int = 1,
    on_trial: OnTrial | None = None,
    store: SearchStore | None = None,
) -> FoundNoise:
    """Search for the noise range of the smallest FID, on the Ray that is connected.

    Args:
        start: the analytic choice, the first trial.
        others: more starting points by name; those equal to an earlier one are left out.
        bounds: by setting, of each that is searched and maybe of others, see `space`.
        repeats: seeds in addition to the search's own, on which the choices are trained again for the verdict; 0: it
            goes by the noise of the samples alone.
        workers: of each trial. More than one: each is a Ray Train run, `resources` are then not used, and
            as many trials run at a time as workers fit. The number changes no result.
        store: where trials are written, see `search`.

    Raises:
        UserError: every trial failed, fewer trials than starting points, bounds that let sigma_min reach
            sigma_max, or too few CPUs or GPUs for the workers of a trial.
    """
    points = {"analytic": start, **others}
    unique = list(dict.fromkeys(points.values()))
    if setup.budget.num_trials < len(unique):
        raise UserError(
            f"tune_noise.num_trials ({setup.budget.num_trials}) is below the {len(unique)} starting points "
            f"(the analytic choice and those given): raise it to at least {len(unique)}."
        )
    bounds = {name: bounds[name] for name in searched(start)}
    given = {name: value for name, value in start.plain().items() if name not in bounds}
    setup, ranges = replace(setup, given=given), space(start, unique, bounds, longest=setup.max_nfe - 1)
    settings = [{name: point.plain()[name] for name in ranges} for point in unique]
    ask = partial(search, metric="fid", shared={"setup": setup}, resources=resources, store=store)
    with contextlib.ExitStack() as stack:
        if workers > 1 or setup.budget.algorithm == "pbt":
            scratch = stack.enter_context(_scratch(store, setup, vars(setup.budget), ranges, settings))
            ask = _placed(ask, setup, workers, scratch)
        if setup.budget.algorithm == "pbt":
            records = _evolved(ask, setup, ranges, settings, scratch, on_trial)
        else:
            records = ask(trial, ranges, budget=setup.budget, points=settings, on_trial=on_trial)
        winner = best_trial([record for record in records if record.status == FINISHED] or records, "fid")
        choices = {"tuned": winner} | {name: _last(records, setup, point) for name, point in points.items()}
        again = partial(_again, setup=setup, repeats=repeats, ask=ask, names=list(ranges))
        compared = compare(choices, again if repeats else None)
    log_verdict(compared)
    return FoundNoise(records, setup.read(winner.settings), compared)


def _last(records: Sequence[TrialRecord], setup: NoiseSetup, point: NoiseRange) -> TrialRecord:
    """The trial of a starting point; of a population's generations the last that trained on it."""
    return [record for record in records if setup.read(record.settings) == point][-1]


@contextlib.contextmanager
def _scratch(store: SearchStore | None, *parts: Any) -> Iterator[Path]:
    """A folder for what trials go on from; with `store` it stays, as the search's trials do."""
    if store:
        yield store.scratch(*parts).resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="ncsn-scratch-") as folder:
            yield Path(folder)


def _placed(ask: Ask, setup: NoiseSetup, workers: int, scratch: Path) -> Ask:
    """The same search with this many workers a trial; one: the search as it is."""
    if workers == 1:
        return ask
    from pipeline.search.noise_workers import HELD, Team

    team = Team(workers, setup.device == "cuda", scratch)
    at_once = team.at_once(setup.budget.max_concurrent)
    return partial(ask, resources=HELD, aside={"team": team}, at_once=at_once)


def _evolved(
    ask: Ask,
    setup: NoiseSetup,
    ranges: Mapping[str, Range],
    points: Sequence[Settings],
    scratch: Path,
    on_trial: OnTrial | None,
) -> list[TrialRecord]:
    from pipeline.search.pbt import evolve

    aside = {**ask.keywords.get("aside", {}), "scratch": scratch}
    return evolve(partial(ask, aside=aside), setup, ranges, points, on_trial)


def _again(
    found: Sequence[Settings], setup: NoiseSetup, repeats: int, ask: Ask, names: Sequence[str]
) -> list[list[TrialRecord]]:
    """The trials of these noise ranges, by the settings `names`, on further seeds, none of them stopped: a
    search that proposes nothing."""
    seeds = range(setup.budget.seed + 1, setup.budget.seed + 1 + repeats)
    ranges = [{name: one[name] for name in names} for one in found]
    points = [{**one, "seed": seed} for one in ranges for seed in seeds]
    budget = replace(setup.budget, num_trials=len(points), max_concurrent=len(points), algorithm="random")
    asked = {name: Range.over([point[name] for point in points]) for name in points[0]}
    records = ask(trial_again, asked, budget=budget, points=points)
    return [records[start : start + repeats] for start in range(0, len(records), repeats)]


def space(
    start: NoiseRange, points: Sequence[NoiseRange], bounds: Mapping[str, Sequence[float]], *, longest: int
) -> dict[str, Range]:
    """The search space in the units of the settings, holding every starting point.

    Args:
        start: the analytic choice.
        bounds: of each setting, as multiples of the analytic choice's; of p_mean, a logarithm, as
            differences; widened where a starting point lies outside.
        longest: levels that the budget of evaluations has room for, where no starting point has more.

    Raises:
        UserError: sigma_min may reach sigma_max.
    """
    ranges = {}
    for name, (low, high) in bounds.items():
        centre, given = start.plain()[name], [point.plain()[name] for point in points]
        signed = name == "p_mean"
        ends = [low + centre, high + centre] if signed else [low * centre, high * centre]
        if name == "num_levels":
            ends = [max(2, min(longest, round(end))) for end in ends]
        ranges[name] = Range(min(ends[0], *given), max(ends[1], *given), log=not signed)
    if "sigma_min" in ranges and ranges["sigma_min"].upper >= ranges["sigma_max"].lower:
        raise UserError(
            f"tune_noise lets sigma_min reach {ranges['sigma_min'].upper:.3g} and sigma_max fall to "
            f"{ranges['sigma_max'].lower:.3g}: lower the upper bound of tune_noise.sigma_min_ratio."
        )
    return ranges
