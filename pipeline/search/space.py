"""What a search is asked: a trial, a space of settings, and how much may be tried."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import optuna

Trial = Callable[..., Iterator[Mapping[str, Any]]]
"""Called as `trial(settings, **shared)`; yields its metrics once at every rung, and may add a `picture`."""


@dataclass(frozen=True)
class Range:
    """Bounds of one setting, both included; searched in integers if both are."""

    lower: float
    upper: float
    log: bool = True
    """On a logarithmic scale; False: on its own, for a setting that is a logarithm and may be negative."""
    only: tuple[str, Sequence[str]] | None = None
    """A `Choice` before it and those of its values that have this setting; None: every trial has it."""
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
class Choice:
    """A setting without an order, such as the name of a sampler."""

    values: tuple[str, ...]

    def suggest(self, trial: optuna.trial.Trial, name: str) -> str:
        """Optuna's value for a trial."""
        return trial.suggest_categorical(name, self.values)


Space = Mapping[str, Range | Choice]
"""By name; a choice stands before the settings that some of its values alone have."""


@dataclass(frozen=True)
class Budget:
    """How much a search may try, and how it chooses."""

    num_trials: int
    rungs: Sequence[int]
    """The amounts of steps or samples at which a trial is judged; it yields once for each."""
    reduction_factor: int
    """Of the trials at a rung, the best in so many goes on."""
    max_concurrent: int
    """Trials at a time; more is faster, but a trial knows less of those before it."""
    seed: int
    algorithm: str = "tpe"
    """How settings are proposed: tpe or random; pbt where a population is trained instead."""

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Self:
        """From a mapping that holds these keys and others, such as a section of params.yaml."""
        return cls(**{name: plain[name] for name in cls.__dataclass_fields__})
