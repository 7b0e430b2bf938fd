"""Pareto front of FID against cost, its knee, and the test of whether two FIDs are equal.

References:
    I. Das, "On characterizing the 'knee' of the Pareto curve based on Normal-Boundary Intersection",
    Structural Optimization 18, 1999: the knee is the point of the front farthest from the chord of its ends.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

LEVEL = 0.95
"""Of the two-sided t test below."""


@dataclass(frozen=True)
class ParetoPoint:
    """A sampler by what it costs and what it gives."""

    name: str
    nfe: int
    fid: float


def front(points: Sequence[ParetoPoint]) -> list[ParetoPoint]:
    """The points that no other beats, the cheapest first: none is as cheap and has a lower FID, or has as
    low an FID and is cheaper. Of equals the first stays."""
    found: list[ParetoPoint] = []
    for point in sorted(points, key=lambda point: (point.nfe, point.fid)):
        if not found or point.fid < found[-1].fid:
            found.append(point)
    return found


def knee(points: Sequence[ParetoPoint]) -> ParetoPoint:
    """The point of a front that lies farthest below the chord between its ends, in logarithms of both axes.

    Logarithms, since halves count on either axis. Ties and a front without a bulge go to the cheapest.

    Args:
        points: a front, the cheapest first, at least one point.
    """
    (x0, y0), (x1, y1) = (_log(points[0]), _log(points[-1]))

    def below(point: ParetoPoint) -> float:
        x, y = _log(point)
        return (x1 - x0) * (y0 - y) + (y1 - y0) * (x - x0)

    return max(points, key=lambda point: (round(below(point), 12), -point.nfe))


def _log(point: ParetoPoint) -> tuple[float, float]:
    return math.log(point.nfe), math.log(max(point.fid, 1e-12))


@dataclass(frozen=True)
class Spread:
    """The standard deviation of log FID from one seed of the samples to another."""

    std: float
    dof: int
    """Degrees of freedom behind it."""

    @classmethod
    def of(cls, fids: Mapping[str, Sequence[float]]) -> "Spread":
        """Pooled over samplers, each with FIDs of several seeds: FID's spread grows with FID, its
        logarithm's hardly does.

        Raises:
            ValueError: no sampler has two FIDs.
        """
        logs = [[math.log(max(fid, 1e-12)) for fid in some] for some in fids.values()]
        dof = sum(len(some) - 1 for some in logs)
        if dof < 1:
            raise ValueError("a spread needs a sampler with two FIDs")
        squares = sum((value - fmean(some)) ** 2 for some in logs for value in some)
        return cls(math.sqrt(squares / dof), dof)

    def limit(self, count_a: float, count_b: float) -> float:
        """The ratio of two mean FIDs, each over some seeds, up to which they count as equal: a two-sided
        t test of level `LEVEL` on their logarithms. At least 1. Infinitely many: a number without noise."""
        from scipy.special import stdtrit  # a third of a second, which a search alone needs

        quantile = float(stdtrit(self.dof, (1 + LEVEL) / 2))
        return math.exp(quantile * self.std * math.sqrt(1 / count_a + 1 / count_b))


def mean(fids: Sequence[float]) -> float:
    """The geometric mean."""
    return math.exp(fmean(math.log(max(fid, 1e-12)) for fid in fids))


def verdict(fids: Sequence[float], others: Sequence[float], spread: Spread) -> str:
    """`better`, `worse` or `tie`: whether the mean of `fids` lies below or above that of `others` by more
    than their seeds explain, see `Spread.limit`."""
    return said(mean(fids) / mean(others), spread.limit(len(fids), len(others)))


def said(ratio: float, limit: float) -> str:
    """`better`, `worse` or `tie`, for a ratio of FIDs of which up to `limit` either way is noise."""
    if 1 / limit <= ratio <= limit:
        return "tie"
    return "better" if ratio < 1 else "worse"
