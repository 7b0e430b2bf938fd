"""Trials of a search: FID against each setting, and all settings as parallel coordinates."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.reporting.figures import style
from pipeline.reporting.figures.curves import log, read_columns, read_rows


@dataclass(frozen=True)
class Axis:
    """Axis of a plot: a setting that FID is plotted against."""

    column: str
    label: str
    analytic: float | None = None
    """Where the analytic choice lies on this axis for every trial; None where it differs between trials."""
    whole: bool = False
    """Whether the setting is a small count, shown on a linear axis."""
    signed: bool = False
    """Whether it may be negative, a logarithm itself, shown on a linear axis."""


@dataclass(frozen=True)
class TrialAxes:
    """Axes of a search's trials: its settings, and what a trial was judged on."""

    axes: tuple[Axis, ...]
    """One panel each."""
    budget: str
    """Column with the samples or steps that a trial was judged on."""
    judged: str
    """What the legend calls an FID at a budget."""


STEP_SIZE = TrialAxes(
    (
        Axis("step_size", "step size ε"),
        Axis("step_size_ratio", "step size / analytic choice", analytic=1.0),
        Axis("steps_per_level", "T, steps per level", whole=True),
    ),
    budget="samples",
    judged="FID (N={:,})",
)
NOISE_RANGE = TrialAxes(
    (
        Axis("sigma_max", "σ$_1$, largest noise level"),
        Axis("sigma_min", "σ$_L$, smallest noise level"),
        Axis("num_levels", "L, number of levels", whole=True),
    ),
    budget="steps",
    judged="FID after {:,} steps",
)
NOISE_LAW = TrialAxes(
    (Axis("p_mean", "P$_{mean}$ of log σ", signed=True), Axis("p_std", "P$_{std}$ of log σ")),
    budget="steps",
    judged="FID after {:,} steps",
)


@dataclass(frozen=True)
class Trial:
    """Trial of a search as its CSV has it."""

    number: int
    settings: Mapping[str, float]
    fid: float
    budget: int
    """What it was judged on, samples or training steps: FIDs are compared only where this is equal."""


def read_trials(path: Path, search: TrialAxes) -> list[Trial]:
    """The trials of a search that have an FID, did not fail after it and have all its settings, in the order
    of proposal.
    """
    names = ["trial", "fid", search.budget, *(axis.column for axis in search.axes)]
    columns = read_columns(path, names)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    whole = [row.get("status") != "failed" for row in read_rows(path)]
    judged = [row for row, ok in zip(rows, whole, strict=True) if ok]
    good = [row for row in judged if all(math.isfinite(row[name]) for name in names)]
    return [Trial(int(row["trial"]), row, row["fid"], int(row[search.budget])) for row in good]


@style.house
def trials(found: Sequence[Trial], search: TrialAxes, analytic: int = 1) -> Figure:
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
        _ring(panel, axis, best_trial(found), style.VERMILION, 130, "best")
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
    figure.legend(handles, labels, loc="outside upper left", ncols=len(labels), handletextpad=0.3, columnspacing=1.4)
    return figure


def best_trial(found: Sequence[Trial]) -> Trial:
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
    norm = LogNorm(ends["fid"][0], ends["fid"][1] * 1.0001)
    for row, values in sorted(good, key=lambda pair: -pair[1]["fid"]):
        points = [(0, _place(kinds, row["kind"]))] if kinds else []
        used = [(x, name) for x, name in enumerate(columns, bool(kinds)) if name in values]
        points += [(x, _share(name, ends[name], values[name])) for x, name in used]
        whole = row["status"] == "finished"
        axes.plot(
            *zip(*points, strict=True), color=style.SEQUENTIAL(norm(values["fid"])), linewidth=1.6 if whole else 0.7,
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
