"""Search space: a trial, bounds and choices of its settings, and the budget of a search."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import optuna

Metrics = Mapping[str, float]
Shared = Mapping[str, Any]
"""Arguments that all trials of a search have in common, by name."""


class RungMetrics(dict[str, float]):
    """Metrics of a trial at a rung, with samples that are none of them: uint8 (N, C, H, W), for MLflow."""

    def __init__(self, metrics: Metrics, samples: np.ndarray) -> None:
        super().__init__(metrics)
        self.samples = samples


Trial = Callable[..., Iterator[Metrics]]
"""Called as `trial(settings, **shared)`; yields once at every rung, maybe a `RungMetrics`."""


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
"""By name; a choice stands before the settings that some of its values alone have."""


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
    def read(cls, plain: Mapping[str, Any]) -> Self:
        """From a mapping that holds these keys and others, such as a section of params.yaml."""
        return cls(**{name: plain[name] for name in cls.__dataclass_fields__})
