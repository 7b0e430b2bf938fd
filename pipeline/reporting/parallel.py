"""Parallel coordinates: every trial of a search as a line through its settings, coloured by its FID."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from pipeline.reporting import style

Ends = tuple[float, float]
SIGNED = ("p_mean",)
"""Settings on a linear axis: logarithms, which may be negative. The others are positive, on a logarithmic
one, where a setting that is not used is empty or 0."""


@style.house
def parallel(rows: Sequence[dict[str, str]], names: Mapping[str, str]) -> Figure:
    """An upright axis for each column, the name of a sampler first where the rows have a `kind`.

    Args:
        rows: of trials.csv, one with an FID at least.
        names: by column, what its axis is called, `fid` among them; where no trial has a value there is none.
    """
    good = [(row, _values(row, names)) for row in rows if row["status"] != "failed" and row["fid"]]
    columns = [name for name in names if any(name in values for _, values in good)]
    kinds = list(dict.fromkeys(row["kind"] for row, _ in good if "kind" in row))
    ends = {name: _ends([values[name] for _, values in good if name in values]) for name in columns}
    figure = style.figure(3.4)
    axes = figure.subplots()
    norm, colours = LogNorm(ends["fid"][0], ends["fid"][1] * 1.0001), colormaps[style.SEQUENTIAL]
    for row, values in sorted(good, key=lambda pair: -pair[1]["fid"]):
        points = [(0, _place(kinds, row["kind"]))] if kinds else []
        used = [(x, name) for x, name in enumerate(columns, bool(kinds)) if name in values]
        points += [(x, _share(name, ends[name], values[name])) for x, name in used]
        whole = row["status"] == "finished"
        axes.plot(
            *zip(*points, strict=True), color=colours(norm(values["fid"])), linewidth=1.6 if whole else 0.7,
            linestyle="-" if whole else "--", marker="o", markersize=2.5, alpha=0.9,
        )  # fmt: skip
    _uprights(axes, kinds, {names[name]: ends[name] for name in columns})
    return figure


def _values(row: dict[str, str], names: Mapping[str, str]) -> dict[str, float]:
    """The cells that lie on their axes."""
    cells = {name: float(row[name]) for name in names if row.get(name)}
    return {name: value for name, value in cells.items() if value > 0 or name in SIGNED}


def _uprights(axes: Axes, kinds: Sequence[str], ends: Mapping[str, Ends]) -> None:
    style.bare(axes)
    labels = ["sampler", *ends] if kinds else list(ends)
    axes.vlines(range(len(labels)), 0, 1, color=style.GREY, linewidth=0.7, zorder=1)
    for kind in kinds:
        axes.text(-0.08, _place(kinds, kind), kind, ha="right", va="center", fontsize=7)
    for x, pair in enumerate(ends.values(), bool(kinds)):
        for y, value in zip((-0.04, 1.04), pair, strict=True):
            text = f"{value:.3g}".replace("-", "−")
            axes.text(x, y, text, ha="center", va="top" if y < 0 else "bottom", fontsize=7)
    axes.set(xlim=(-0.1 if kinds else -0.3, len(labels) - 0.7), ylim=(-0.12, 1.12))
    axes.set_xticks(range(len(labels)), labels)
    axes.tick_params(length=0)


def _ends(values: Sequence[float]) -> Ends:
    return min(values), max(values)


def _share(name: str, ends: Ends, value: float) -> float:
    """Where a value lies between the ends, 0 to 1, by the axis's scale; in the middle where both are one."""
    low, high = ends
    if high <= low:
        return 0.5
    if name in SIGNED:
        return (value - low) / (high - low)
    return float(np.log(value / low) / math.log(high / low))


def _place(kinds: Sequence[str], kind: str) -> float:
    return 0.5 if len(kinds) == 1 else 1 - kinds.index(kind) / (len(kinds) - 1)
