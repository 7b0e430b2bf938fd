"""Whether a run reproduces a published one: for each row and measure an equivalence test of the difference.

The published run has S trainings with K sets of samples each, the run here S' with K'. Both are draws of one variance,
which is modelled as phi V(m): m is the published mean, and V is m for FID and KID, squared distances whose error grows
with their root, and m (1 - m) for precision and recall, which are shares of samples. One phi for each measure is
pooled over all rows, with S - 1 degrees of freedom for each network. So the difference of the means has the standard
error sqrt(phi V(m) (1 / S' + 1 / S)). Reproduced: two one-sided t tests (TOST) reject a difference of the margin or
more. Not reproduced: the difference lies beyond the margin, each of the four measures tested at ALPHA / 4.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from pipeline.dvcfile import differences
from pipeline.metrics.measures import measure
from pipeline.reporting.intervals import bounds
from pipeline.reporting.rows import Row, Table
from pipeline.reporting.verdict import ALPHA

Reproduction = Literal["reproduced", "not reproduced", "cannot tell"]
Settings = Mapping[str, Mapping[str, object]]
"""ROW: the values of params.yaml that its numbers depend on, as the report's settings.json has them."""
DISTANCES, SHARES = ("fid", "kid"), ("precision", "recall")
MEASURES = (*DISTANCES, *SHARES)
MARGIN = 0.4
"""Largest difference that counts as equal, relative to the published value. docs/explanation/compare.md says why."""
REPEATS = ("train.seed", "generate.seed", "generate.sample_sets", "compute.kernels")
"""Settings that make another draw of the same experiment; kernels round as another processor does."""
NAMED = 2
"""Settings that a reason names."""
VERDICT, CELL = len("not reproduced"), 13
"""Widths of columns."""
FIELDS = {"n": "N", "n_reference": "reference images", "reference_set": "reference set", "nfe": "NFE"}


@dataclass(frozen=True)
class Difference:
    """Difference of a measure from the published one, relative to the published value."""

    measure: str
    value: float
    """(here - published) / published."""
    half: float
    """Half the width of its interval of level 1 - 2 ALPHA."""
    verdict: Reproduction


@dataclass(frozen=True)
class Reproduced:
    """Verdict on a row."""

    row: Row
    verdict: Reproduction
    differences: tuple[Difference, ...] = ()
    reason: str = ""
    """Why nothing can be told, or what is equal to the bit."""


@dataclass(frozen=True)
class PooledSpread:
    """Variance of one training's mean over its sets, in units of V(m), pooled over rows."""

    phi: float
    dof: int


def compare(
    here: Table, published: Table, margin: float, settings: tuple[Settings, Settings] = ({}, {})
) -> tuple[Reproduced, ...]:
    """The verdict on every row that a sampler made here, in the table's order.

    Args:
        margin: relative to the published value.
        settings: of the run here and of the published one; rows that either lacks are not compared by them.
    """
    return tuple(_judge(row, here, published, margin, settings) for row in here.rows if not row.is_floor)


def _judge(row: Row, here: Table, published: Table, margin: float, settings: tuple[Settings, Settings]) -> Reproduced:
    other = published.row(row.system, row.denoised)
    if other is None or not (row.measured and other.measured):
        return Reproduced(row, "cannot tell", reason=f"not measured {'here' if other and other.measured else 'there'}")
    if reason := _other_terms(row, other, here, published, settings):
        return Reproduced(row, "cannot tell", reason=reason)
    if _same(row, other, "samples"):
        return Reproduced(row, "reproduced", reason="bit-equal: the very same samples")
    known = tuple(filter(None, (_difference(name, row, other, published, margin) for name in MEASURES)))
    if not known:
        return Reproduced(row, "cannot tell", reason="the published run has no spread between trainings")
    reason = "the network is bit-equal" if _same(row, other, "checkpoint") else ""
    return Reproduced(row, _together([one.verdict for one in known]), known, reason)


def _together(verdicts: Iterable[Reproduction]) -> Reproduction:
    found = set(verdicts)
    if "not reproduced" in found:
        return "not reproduced"
    return "reproduced" if found == {"reproduced"} else "cannot tell"


def _same(row: Row, other: Row, what: str) -> bool:
    """Whether the first training's file has one hash in both."""
    return row.sha256(what) != "" and row.sha256(what) == other.sha256(what)


def _other_terms(
    row: Row, other: Row, here: Table, published: Table, settings: tuple[Settings, Settings]
) -> str | None:
    """What is another experiment or another yardstick."""
    if here.data_sha256 != published.data_sha256:
        return "other data"
    mine, theirs = (one.get(row.system, {}) for one in settings)
    if mine and theirs and (changed := _changed(mine, theirs)):
        more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
        return f"other settings: {', '.join(changed[:NAMED])}{more}"
    if row.sha256("evaluator") != other.sha256("evaluator") or row.evaluator != other.evaluator:
        hashes = f"{row.sha256('evaluator')[:8]} here, {other.sha256('evaluator')[:8]} there"
        return f"another evaluator ({hashes})"
    differing = [name for name in FIELDS if getattr(row, name) != getattr(other, name)]
    said = [f"{FIELDS[name]} {getattr(row, name)} against {getattr(other, name)}" for name in differing]
    return "; ".join(said) or None


def _changed(mine: Mapping[str, object], theirs: Mapping[str, object]) -> list[str]:
    """The settings that differ, as `key: here against there`."""
    pairs = ((key, mine.get(key, "nothing"), theirs.get(key, "nothing")) for key in {**mine, **theirs})
    leaves = (leaf for key, one, other in pairs for leaf in differences(key, one, other))
    return [f"{name} {one} against {other}" for name, one, other in leaves if name not in REPEATS]


def _difference(name: str, row: Row, other: Row, published: Table, margin: float) -> Difference | None:
    """None where a side has no value, the published one is not positive, or its run was not trained repeatedly."""
    value, mean, spread = row.value(name), other.value(name), pooled(published, name, row.sampling_sets or 1)
    if value is None or mean is None or mean <= 0 or spread is None:
        return None
    variance = spread.phi * scale(name, mean, other.n or 1, _floor(published, name))
    repeats = 1 / (row.training_seeds or 1) + 1 / (other.training_seeds or 1)
    return _tested(name, (value - mean) / mean, math.sqrt(variance * repeats) / mean, spread.dof, margin)


def _tested(name: str, difference: float, stderr: float, dof: int, margin: float) -> Difference:
    low, high = bounds(difference, stderr, dof, 1 - 2 * ALPHA)
    least, most = bounds(difference, stderr, dof, 1 - 2 * ALPHA / len(MEASURES))
    found: Reproduction = "reproduced" if -margin < low and high < margin else "cannot tell"
    if least > margin or most < -margin:
        found = "not reproduced"
    return Difference(name, difference, (high - low) / 2, found)


def scale(name: str, mean: float, n: int, floor: float = 0.0) -> float:
    """V(m), the variance of a measure up to a factor that all rows share.

    Args:
        n: samples in a set: a share of them is at least 1 / n away from 0 and 1.
        floor: the measure on real images; a distance's variance is at least theirs.
    """
    return max(mean * (1 - mean), 1 / n) if name in SHARES else max(mean, floor)


def pooled(table: Table, name: str, sets: int) -> PooledSpread | None:
    """Spread of a measure between trainings with `sets` sets each; None without repeated trainings."""
    floor = _floor(table, name)
    rows = [row for row in table.rows if not row.is_floor and (row.training_seeds or 1) > 1 and row.interval(name)]
    scales = [scale(name, row.value(name) or 0.0, row.n or 1, floor) for row in rows]
    known = [(row, v) for row, v in zip(rows, scales, strict=True) if v > 0]  # KID's estimate may be below 0
    dofs = {row.network: (row.training_seeds or 1) - 1 for row, _ in known}
    phi = fmean(_variance(row, name, sets) / v for row, v in known) if known else 0.0
    return PooledSpread(phi, sum(dofs.values())) if phi > 0 else None


def _variance(row: Row, name: str, sets: int) -> float:
    """Of the mean of one training over its sets: over as many as here, or as were published where that is fewer."""
    found = row.interval(name)
    assert found is not None
    if found.std_training is None or found.std_sampling is None:
        return found.stderr**2 * (row.training_seeds or 1)
    return float(found.std_training**2 + found.std_sampling**2 / min(sets, row.sampling_sets or 1))


def _floor(table: Table, name: str) -> float:
    return max((row.value(name) or 0.0 for row in table.floors()), default=0.0)


def text(found: Sequence[Reproduced], published: str, margin: float) -> str:
    """The verdicts as a table for a terminal: one line for each row."""
    reasons = {one.reason for one in found if not one.differences}
    if len(reasons) == 1 and len(found) > 1 and not any(one.differences for one in found):
        return f"Against {published}, every row: {found[0].verdict}, {reasons.pop()}\n"
    width = max((len(one.row.label) for one in found), default=0)
    head = ["row".ljust(width), "verdict".ljust(VERDICT), *(measure(name).label.ljust(CELL) for name in MEASURES)]
    lines = [
        f"Against {published}: differences relative to the published value, with {1 - 2 * ALPHA:.0%} intervals.",
        f"Margin: {margin:.0%} of the published value. = within the margin, ! beyond it, ? neither is shown.",
        "",
        "  ".join(head).rstrip(),
        *("  ".join([one.row.label.ljust(width), one.verdict.ljust(VERDICT), *_cells(one)]) for one in found),
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _cells(one: Reproduced) -> list[str]:
    if not one.differences:
        return [one.reason]
    cells = {found.measure: _cell(found) for found in one.differences}
    return [*(cells.get(name, "-").ljust(CELL) for name in MEASURES), one.reason]


def _cell(found: Difference) -> str:
    mark = {"reproduced": "=", "not reproduced": "!", "cannot tell": "?"}[found.verdict]
    return f"{found.value:+.0%} ± {found.half:.0%} {mark}"
