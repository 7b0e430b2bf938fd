"""Figures made of lines and points: losses along training, and FID over the settings that a search tried."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from pipeline.ncsn.errors import UserError
from pipeline.reporting import style

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Axis:
    """A setting to plot FID against."""

    column: str
    label: str
    analytic: float | None = None
    """Where the analytic choice lies on this axis for every trial; None where it differs between trials."""
    whole: bool = False
    """Whether the setting is a small count, shown on a linear axis."""
    signed: bool = False
    """Whether it may be negative, a logarithm itself, shown on a linear axis."""


@dataclass(frozen=True)
class Search:
    """A search whose trials are drawn."""

    axes: tuple[Axis, ...]
    """One panel each."""
    budget: str
    """The column that says how far a trial went before it was judged."""
    judged: str
    """What the legend calls an FID at a budget."""


STEP_SIZE = Search(
    (
        Axis("step_size", "step size ε"),
        Axis("step_size_ratio", "step size / analytic choice", analytic=1.0),
        Axis("steps_per_level", "T, steps per level", whole=True),
    ),
    budget="samples",
    judged="FID (N={:,})",
)
NOISE_RANGE = Search(
    (
        Axis("sigma_max", "σ$_1$, largest noise level"),
        Axis("sigma_min", "σ$_L$, smallest noise level"),
        Axis("num_levels", "L, number of levels", whole=True),
    ),
    budget="steps",
    judged="FID after {:,} steps",
)
NOISE_LAW = Search(
    (
        Axis("p_mean", "P$_{mean}$ of log σ", signed=True),
        Axis("p_std", "P$_{std}$ of log σ"),
    ),
    budget="steps",
    judged="FID after {:,} steps",
)


@dataclass(frozen=True)
class Trial:
    """A trial of a search as its CSV has it."""

    number: int
    settings: Mapping[str, float]
    fid: float
    budget: int
    """What it was judged on, samples or training steps: FIDs are compared only where this is equal."""


def read_columns(path: Path, names: Sequence[str]) -> dict[str, Floats]:
    """Columns of a CSV file by name; an empty cell is NaN.

    Raises:
        UserError: the file or a column is missing, or a cell is no number.
    """
    rows = read_rows(path)
    try:
        return {name: np.array([float(row[name] or "nan") for row in rows]) for name in names}
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: bad or missing column ({error}): delete it and run `dvc repro`.") from error


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; raises UserError where it is missing."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: run `dvc repro` to make it.") from error


def read_trials(path: Path, search: Search) -> list[Trial]:
    """The trials of a search that have an FID, did not fail after it and have all its settings, in the order
    of proposal.

    Raises:
        UserError: the file or a column is missing, or a cell is no number.
    """
    names = ["trial", "fid", search.budget, *(axis.column for axis in search.axes)]
    columns = read_columns(path, names)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    whole = [row.get("status") != "failed" for row in read_rows(path)]
    judged = [row for row, ok in zip(rows, whole, strict=True) if ok]
    good = [row for row in judged if all(math.isfinite(row[name]) for name in names)]
    return [Trial(int(row["trial"]), row, row["fid"], int(row[search.budget])) for row in good]


@style.house
def loss_curves(curves: Mapping[str, tuple[Floats, Floats]]) -> Figure:
    """The training loss of each variant over the images it has seen, thin as logged and bold as smoothed.

    Args:
        curves: variant -> (images seen, loss), two arrays of one length.
    """
    figure = style.figure(2.9)
    axes = figure.subplots()
    for place, (variant, (images, loss)) in enumerate(curves.items()):
        colour = style.CYCLE[place % len(style.CYCLE)]
        axes.plot(images, loss, color=colour, alpha=0.25, linewidth=0.7)
        dashes = style.DASHES[place % len(style.DASHES)]
        axes.plot(images, smoothed(loss), color=colour, linewidth=1.6, linestyle=dashes, label=variant)
    values = np.concatenate([loss for _, loss in curves.values()])
    if values.min() > 0 and values.max() > 5 * values.min():
        log(axes, "y")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _thousands(value)))
    axes.set(xlabel="images seen in training", ylabel="training loss", xlim=(0, None))
    style.legend_above(axes)
    return figure


def smoothed(values: Floats, share: float = 0.06) -> Floats:
    """The centred running mean over a share of the curve, over less of it at the ends. (n,) -> (n,)."""
    half = max(1, int(len(values) * share / 2))
    total = np.concatenate([[0.0], np.cumsum(values)])
    place = np.arange(len(values))
    low, high = np.maximum(place - half, 0), np.minimum(place + half + 1, len(values))
    return np.asarray((total[high] - total[low]) / (high - low))


@style.house
def trials(found: Sequence[Trial], search: Search, analytic: int = 1) -> Figure:
    """FID of every trial against each setting, on shared axes; the best and the analytic choice marked.

    FIDs at different budgets are not compared: trials stopped before the largest one are hollow, a marker
    for each budget, and cannot be the best.

    Args:
        found: at least one trial.
        analytic: number of the analytic choice; the first trial, as the searches start.
    """
    figure = style.figure(3.0)
    panels = np.atleast_1d(figure.subplots(1, len(search.axes), sharey=True))
    budgets = sorted({trial.budget for trial in found}, reverse=True)
    for panel, axis in zip(panels, search.axes, strict=True):
        for place, budget in enumerate(budgets):
            some = [trial for trial in found if trial.budget == budget]
            _scatter(panel, axis, some, place, search.judged.format(budget) + (", stopped" if place else ""))
        if axis.analytic:
            panel.axvline(axis.analytic, color=style.GREY, linewidth=0.9, linestyle=":", zorder=1)
        _ring(panel, axis, best(found), style.VERMILION, 130, "best")
        for trial in (trial for trial in found if trial.number == analytic):
            _ring(panel, axis, trial, style.INK, 60, "analytic choice")
        log(panel, "y")
        if axis.whole:
            panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            low, high = panel.get_xlim()
            panel.set_xlim(min(low, math.ceil(low) - 0.4), max(high, math.floor(high) + 0.4))
        elif not axis.signed:
            log(panel, "x")
        panel.set_xlabel(axis.label)
    panels[0].set_ylabel("FID of the trial")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper left", ncols=len(labels), handletextpad=0.3, columnspacing=1.4
    )
    return figure


def best(found: Sequence[Trial]) -> Trial:
    """The trial of lowest FID among those judged on the largest budget."""
    top = max(trial.budget for trial in found)
    judged = [trial for trial in found if trial.budget == top]
    return min(judged, key=lambda trial: (trial.fid, trial.number))


def _scatter(panel: Axes, axis: Axis, some: Sequence[Trial], place: int, label: str) -> None:
    hollow = "none" if place else style.BLUE
    edge = style.BLUE if place == 0 else style.GREY
    marker = style.MARKERS[place % len(style.MARKERS)]
    x, y = [trial.settings[axis.column] for trial in some], [trial.fid for trial in some]
    panel.scatter(x, y, s=22, marker=marker, facecolors=hollow, edgecolors=edge, linewidths=0.9, label=label)


def _ring(panel: Axes, axis: Axis, trial: Trial, colour: str, size: float, label: str) -> None:
    panel.scatter(
        [trial.settings[axis.column]],
        [trial.fid],
        s=size,
        facecolors="none",
        edgecolors=colour,
        linewidths=1.3,
        marker="o" if label == "best" else "D",
        label=label,
        zorder=4,
    )


def log(panel: Axes, which: str) -> None:
    """A logarithmic axis with as many labelled ticks as a narrow panel has room for."""
    (panel.set_xscale if which == "x" else panel.set_yscale)("log")
    axis = panel.xaxis if which == "x" else panel.yaxis
    low, high = (panel.get_xlim if which == "x" else panel.get_ylim)()
    decades = math.log10(high / low)
    if decades < 0.7:
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    else:
        subs = (1.0, 2.0, 5.0) if decades < 1.2 else ((1.0, 3.0) if decades < 2.2 else (1.0,))
        axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
    axis.set_minor_formatter(NullFormatter())


def _plain(value: float) -> str:
    """0.05 as it is, 2e-05 as a power of ten."""
    if 1e-3 <= abs(value) < 1e5 or value == 0:
        return f"{value:g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    head = "" if mantissa == "1.0" else f"{float(mantissa):g}·"
    return f"{head}10$^{{{int(exponent)}}}$"


def _thousands(value: float) -> str:
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
