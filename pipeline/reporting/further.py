"""What some evaluations hold beside the table's measures: FID at infinity, memorisation, bits/dim."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from pipeline.reporting.intervals import Interval, nested

Block = Mapping[str, Any]
Cells = Sequence[Sequence[Block]]
KEYS = {
    "fid_infinity": {"": "fid_infinity", "_stderr": "fid_infinity_stderr"},
    "memorisation_pixels": {"": "ratio", "_low": "low", "_high": "high"},
    "memorisation_features": {"": "ratio", "_low": "low", "_high": "high"},
    "bits_per_dim": {"": "mean", "_stderr": "stderr"},
}
"""Each measure's fields in a row, by what they end in, and where an evaluation has them."""


def fields(grid: Cells, evaluations: Sequence[Block]) -> tuple[dict[str, Any], tuple[Interval, ...]]:
    """The fields of a row, and the interval of each measure that was measured more than once.

    Args:
        grid: (S, K) blocks: of K sets of samples of each of S networks.
        evaluations: the S that they are from. Bits/dim is of a network, on the same images for all: its
            interval is over training seeds alone.

    Returns:
        Means, None where a block has not the measure. Ends of memorisation are those of the interval, or of
        the one block its own, by resampling; what ends in _stderr is the mean of the blocks' own.
    """
    bits = [[evaluation.get("bits_per_dim") or {}] for evaluation in evaluations]
    cells = {name: _within(grid, name) for name in KEYS} | {"fid_infinity": grid, "bits_per_dim": bits}
    found = {f"{name}{end}": _mean(cells[name], key) for name in KEYS for end, key in KEYS[name].items()}
    intervals = {name: _interval(name, cells[name]) for name in KEYS if found[name] is not None}
    known = {name: interval for name, interval in intervals.items() if interval}
    for name in known.keys() & {"memorisation_pixels", "memorisation_features"}:
        found |= {f"{name}_{end}": getattr(known[name], end) for end in ("low", "high")}
    note = bits[0][0].get("not_measured") or bits[0][0].get("how")
    return found | {"bits_per_dim_note": note}, tuple(known.values())


def _within(grid: Cells, name: str) -> Cells:
    return [[block.get(name) or {} for block in sets] for sets in grid]


def _mean(cells: Cells, key: str) -> float | None:
    values = [block.get(key) for sets in cells for block in sets]
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def _interval(name: str, cells: Cells) -> Interval | None:
    return nested(name, [[block[KEYS[name][""]] for block in sets] for sets in cells])
