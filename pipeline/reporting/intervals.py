"""Confidence intervals of repeated measurements, and their components of variance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
"""Of the intervals that the table shows."""


@dataclass(frozen=True)
class Interval:
    """Interval of a measure over S training seeds x K sampling sets."""

    measure: str
    mean: float
    stderr: float
    """Of the mean; with one training seed, of that network's mean over samples alone."""
    dof: int
    """Degrees of freedom of `stderr`."""
    low: float
    high: float
    """Ends of the interval of level LEVEL, by Student's t."""
    std_training: float | None = None
    """Standard deviation between training seeds, sampling apart; None unless S and K are 2 or more."""
    std_sampling: float | None = None
    """Standard deviation between sets of one network; None unless K is 2 or more."""

    def at(self, level: float) -> tuple[float, float]:
        """The two-sided interval of another level."""
        return bounds(self.mean, self.stderr, self.dof, level)


def bounds(mean: float, stderr: float, dof: int, level: float) -> tuple[float, float]:
    """mean ∓ t stderr, with t the (1 + level) / 2 quantile of Student's t."""
    from scipy.special import stdtrit  # takes a third of a second, and one value does not need it

    half = float(stdtrit(dof, (1 + level) / 2)) * stderr
    return mean - half, mean + half


def nested(measure: str, values: Sequence[Sequence[float]]) -> Interval | None:
    """The interval of the mean of S x K values, K sets nested in each of S training seeds.

    The model is y_sk = mu + a_s + e_sk, balanced. Its analysis of variance has the mean squares
    A = K sum (y_s. - y..)^2 / (S - 1) and E = sum (y_sk - y_s.)^2 / (S (K - 1)), of expectation
    K var(a) + var(e) and var(e): the method of moments splits the variance by them, a negative share counted
    as 0. The mean's variance is A / (S K) with S - 1 degrees of freedom, which is exact for normal a and e;
    with S = 1 there is E / K with K - 1, and the interval is of that one network.

    Args:
        values: (S, K).

    Returns:
        None where there is one value.

    Raises:
        ValueError: seeds differ in their number of sets.
    """
    if len({len(row) for row in values}) != 1:
        raise ValueError(f"{measure}: sets by training seed: {[len(row) for row in values]}")
    y = np.asarray(values, dtype=np.float64)
    seeds, sets = y.shape
    if y.size == 1:
        return None
    mean, within = float(y.mean()), float(y.var(axis=1, ddof=1).mean()) if sets > 1 else None
    if seeds == 1:
        assert within is not None
        return _interval(measure, mean, within / sets, sets - 1, std_sampling=math.sqrt(within))
    between = sets * float(y.mean(axis=1).var(ddof=1))
    split = {} if within is None else _split(between, within, sets)
    return _interval(measure, mean, between / y.size, seeds - 1, **split)


def _split(between: float, within: float, sets: int) -> dict[str, float]:
    training = max(between - within, 0.0) / sets
    return {"std_training": math.sqrt(training), "std_sampling": math.sqrt(within)}


def _interval(measure: str, mean: float, variance: float, dof: int, **split: float) -> Interval:
    stderr = math.sqrt(variance)
    return Interval(measure, mean, stderr, dof, *bounds(mean, stderr, dof, LEVEL), **split)
