"""Search algorithms (TPE, successive halving), search space and budget: decisions in a fixed order.

Trial t is proposed and judged by what trials 1 ... t - max_concurrent showed, whichever finished first, so a
search repeats itself digit for digit at any `max_concurrent`. (Ray's own ASHA judges in the order of
arrival: at two trials at a time its stops differ between runs.) Trials are named by their place, from 0.

References: Li et al., A System for Massively Parallel Hyperparameter Tuning (ASHA), arXiv 1810.05934;
Bergstra et al., Algorithms for Hyper-Parameter Optimization (TPE), NeurIPS 2011.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import optuna

from pipeline.search.records import Settings

if TYPE_CHECKING:
    from pipeline.params.search import SearchSection

APART = 1_000_003
"""Between the seeds of a search's studies, so that searches of neighbouring seeds share no draws."""


@dataclass(frozen=True)
class Range:
    """Bounds of one setting, both included; searched in integers if both are."""

    lower: float
    upper: float
    log: bool = True
    """On a logarithmic scale; False: on its own, for a setting that is a logarithm and may be negative."""
    only: tuple[str, Sequence[str]] | None = None
    """A `Categorical` before it and those of its values that have this setting; None: every trial has it."""
    drawn_as: str = ""
    """Its name in Optuna, whose TPE draws in the order of names; empty: its own. So a setting that is renamed
    is proposed as before."""

    @classmethod
    def over(cls, values: Sequence[float]) -> Self:
        """What holds these values, for a search that tries nothing between them."""
        return cls(min(values), max(values), log=min(values) > 0)

    def suggest(self, trial: optuna.trial.Trial, name: str) -> float | None:
        """Optuna's value for a trial; None where the trial does without it."""
        if self.only and trial.params[self.only[0]] not in self.only[1]:
            return None
        name = self.drawn_as or name
        if isinstance(self.lower, int) and isinstance(self.upper, int):
            return trial.suggest_int(name, self.lower, self.upper, log=self.log)
        return trial.suggest_float(name, self.lower, self.upper, log=self.log)


@dataclass(frozen=True)
class Categorical:
    """A setting without an order, such as the name of a sampler."""

    values: tuple[str, ...]

    def suggest(self, trial: optuna.trial.Trial, name: str) -> str:
        """Optuna's value for a trial."""
        return trial.suggest_categorical(name, self.values)


Space = Mapping[str, Range | Categorical]
"""By name; a choice comes before the settings that only some of its values have."""


def suggested(space: Space, trial: optuna.trial.Trial) -> Settings:
    """Optuna's settings for a trial, by their names and in the order of the space."""
    found = {name: bounds.suggest(trial, name) for name, bounds in space.items()}
    return {name: value for name, value in found.items() if value is not None}


def in_optuna(space: Space, settings: Settings) -> Settings:
    """Settings by their names in Optuna, see `Range.drawn_as`."""
    names = {name: getattr(bounds, "drawn_as", "") or name for name, bounds in space.items()}
    return {names.get(name, name): value for name, value in settings.items()}


@dataclass(frozen=True)
class Budget:
    """How much a search may try, and how it chooses."""

    num_trials: int
    rungs: Sequence[int]
    """The amounts of steps or samples at which a trial is judged; it yields once for each."""
    reduction_factor: int
    """Of the trials at a rung, one in this many continues."""
    max_concurrent: int
    """Trials at a time; more is faster, but a trial knows less of those before it."""
    seed: int
    algorithm: str = "tpe"
    """How settings are proposed: tpe or random; pbt where a population is trained instead."""

    def identity(self) -> dict[str, int]:
        """What a trial's metrics follow from: neither the number of trials nor the rules of stopping.

        A longer search finds its trials so. Rungs are compared one by one, see `store.Journal`.
        """
        return {"seed": self.seed}

    @classmethod
    def of(cls, section: "SearchSection") -> Self:
        """The budget that a section of params.yaml gives."""
        return cls(**{name: getattr(section, name) for name in cls.__dataclass_fields__})


class Proposer:
    """Proposer of settings by seeded samplers of Optuna: `points`, a few random ones, then by what was seen.

    Under `tpe` each value of the space's first `Categorical` has a study of its own. They take turns: all of them
    up to half of the trials, from there the better half, by the best trial of each. `random` draws the
    value too. Results are reported in the order of proposal, each exactly `max_concurrent` proposals later.
    """

    def __init__(self, space: Space, points: Sequence[Settings], budget: Budget) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._budget = budget
        name, values = _kinds(space, budget)
        self._spaces = {value: {**space, name: Categorical((value,))} if name else space for value in values}
        self._points: list[str] = [point.get(name, "") for point in points]
        self._studies = _studies(values, self._points, budget)
        for value, point in zip(self._points, points, strict=True):
            self._studies[value].enqueue_trial(in_optuna(space, point))
        self._asked: list[tuple[str, optuna.trial.Trial]] = []
        self._results: dict[int, float] = {}
        self._best = dict.fromkeys(values, math.inf)

    def ask(self) -> Settings | None:
        """The next trial's settings; None as long as a result is missing that it must follow from."""
        due = len(self._asked) - self._budget.max_concurrent
        if due >= 0:
            if due not in self._results:
                return None
            self._learn(*self._asked[due], self._results[due])
        value = self._turn(len(self._asked))
        trial = self._studies[value].ask()
        self._asked.append((value, trial))
        return suggested(self._spaces[value], trial)

    def tell(self, place: int, result: float) -> None:
        """What a trial ended with; infinity if it failed: Optuna forgets failures and goes there again."""
        self._results[place] = result

    def _learn(self, value: str, trial: optuna.trial.Trial, result: float) -> None:
        self._studies[value].tell(trial, result)
        self._best[value] = min(self._best[value], result)

    def _turn(self, place: int) -> str:
        """Whose trial this is."""
        if place < len(self._points):
            return self._points[place]
        values: list[str] = list(self._best)
        if 2 * place >= self._budget.num_trials:
            better = sorted(values, key=self._best.__getitem__)[: math.ceil(len(values) / 2)]
            values = [value for value in values if value in better]
        return values[(place - len(self._points)) % len(values)]


def _kinds(space: Space, budget: Budget) -> tuple[str, tuple[str, ...]]:
    """The setting whose values have studies of their own, and these; one empty value where there is none."""
    choices = [(name, each.values) for name, each in space.items() if isinstance(each, Categorical)]
    return choices[0] if choices and budget.algorithm == "tpe" else ("", ("",))


def _studies(values: Sequence[str], points: Sequence[str], budget: Budget) -> dict[str, optuna.Study]:
    """A study for each value, with draws of its own, that begins with its points and a few random trials."""
    random = max(2, budget.num_trials // len(values) // 5)
    return {
        value: optuna.create_study(sampler=_sampler(points.count(value) + random, budget.seed + APART * index, budget))
        for index, value in enumerate(values)
    }


def _sampler(startup: int, seed: int, budget: Budget) -> optuna.samplers.BaseSampler:
    if budget.algorithm == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=startup,
            multivariate=True,  # settings jointly; Optuna 4 and 5 have different defaults, and so other trials
            constant_liar=budget.max_concurrent > 1,  # keeps away from trials whose result it cannot know yet
        )


class Halving:
    """ASHA's rule: a trial continues if it is among the best 1 in `reduction_factor` known at its rung."""

    def __init__(self, budget: Budget) -> None:
        self._lag, self._factor = budget.max_concurrent, budget.reduction_factor
        self._seen: list[dict[int, float]] = [{} for _ in budget.rungs]

    def stops(self, place: int, rung: int, value: float) -> bool:
        """Whether the trial at `place` ends at a rung, from 0; `value` is remembered for later trials."""
        seen = self._seen[rung]
        known = [other for earlier, other in seen.items() if earlier <= place - self._lag]
        seen[place] = value
        return bool(known) and value > float(np.quantile(known, 1 / self._factor))
