"""Comparison of FIDs: Pareto front and its knee, the test of equality, and the lines of best.yaml.

References:
    I. Das, "On characterizing the 'knee' of the Pareto curve based on Normal-Boundary Intersection",
    Structural Optimization 18, 1999: the knee is the point of the front farthest from the chord of its ends.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Self

from pipeline.ncsn.sampler import Sampler
from pipeline.search.records import Settings, TrialRecord

LEVEL = 0.95
"""Of the two-sided t test below."""


@dataclass(frozen=True)
class CostPoint:
    """A sampler by what it costs and what it gives."""

    name: str
    nfe: int
    fid: float


def front(points: Sequence[CostPoint]) -> list[CostPoint]:
    """The points that no other beats, the cheapest first: none is as cheap and has a lower FID, or has as
    low an FID and is cheaper. Of equals the first stays."""
    found: list[CostPoint] = []
    for point in sorted(points, key=lambda point: (point.nfe, point.fid)):
        if not found or point.fid < found[-1].fid:
            found.append(point)
    return found


def knee(points: Sequence[CostPoint]) -> CostPoint:
    """The point of a front that lies farthest below the chord between its ends, in logarithms of both axes.

    Logarithms, since halves count on either axis. Ties and a front without a bulge go to the cheapest.

    Args:
        points: a front, the cheapest first, at least one point.
    """
    (x0, y0), (x1, y1) = (_log(points[0]), _log(points[-1]))

    def below(point: CostPoint) -> float:
        x, y = _log(point)
        return (x1 - x0) * (y0 - y) + (y1 - y0) * (x - x0)

    return max(points, key=lambda point: (round(below(point), 12), -point.nfe))


def _log(point: CostPoint) -> tuple[float, float]:
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


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Verdict of a search, as best.yaml has it: whether what it found beats the analytic choice."""

    tuned_against_analytic: str = "unknown"
    """`better`, `tie` or `worse`; `unknown` where one of them failed."""
    noise_of: str | None = None
    """Whose noise a tie is within: that of the `samples` or, with repeats, of the `seeds`."""
    fid_ratio: float | None = None
    equal_up_to: float | None = None
    """The ratio up to which two FIDs count as equal."""
    std_of_log_fid: Mapping[int, float] | None = None
    """By the steps or samples at each rung."""
    degrees_of_freedom: int | None = None
    no_better_than: tuple[str, ...] | None = None
    """The starting points of a noise search that its winner does not beat, the lowest FID first."""
    denoising_against_none: str | None = None
    """Of the sampler with the lowest FID: its last denoising step against none."""
    denoising_fid_ratio: float | None = None
    denoising_equal_up_to: float | None = None

    @classmethod
    def by_seeds(cls, tuned: Sequence[float], analytic: Sequence[float], spreads: Mapping[int, Spread]) -> Self:
        """The verdict by FIDs on further seeds; `spreads` by the steps or samples at each rung."""
        spread = spreads[max(spreads)]
        return cls(
            tuned_against_analytic=verdict(tuned, analytic, spread),
            fid_ratio=mean(tuned) / mean(analytic),
            equal_up_to=spread.limit(len(tuned), len(analytic)),
            std_of_log_fid={count: one.std for count, one in spreads.items()},
            degrees_of_freedom=spread.dof,
        )

    def plain(self) -> dict[str, object]:
        """The verdict as YAML holds it."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class SearchLine:
    """Line of best.yaml: a trial or the baseline, what it measured, and what it gave on further seeds."""

    values: Settings
    """The settings as used, and the metrics at the last rung."""
    trial: int | None = None
    status: str | None = None
    fid_again: float | None = None
    """The geometric mean over `seeds` further seeds."""
    fid_raw_again: float | None = None
    seeds: int | None = None
    reaches_baseline: bool | None = None
    sampler: Sampler | None = None
    """As chosen, in numbers."""

    @classmethod
    def of(cls, record: TrialRecord) -> Self:
        """The line of a trial."""
        return cls(values={**record.settings, **record.metrics}, trial=record.trial, status=record.status)

    def plain(self) -> dict[str, object]:
        """The line as YAML holds it."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "values"}
        found = {**self.values, **{name: value for name, value in own.items() if value is not None}}
        return found if self.sampler is None else {**found, "sampler": self.sampler.plain()}

    def __str__(self) -> str:
        hidden = ("trial", "status", "samples", "sampler")
        numbers = {key: value for key, value in self.plain().items() if key not in hidden}
        return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in numbers.items())
