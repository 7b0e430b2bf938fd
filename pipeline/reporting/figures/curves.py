"""Curves: training losses, FIDs of checkpoints, the frontier; reading CSV; logarithmic axes."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from pipeline.files import read_json
from pipeline.ncsn.errors import UserError
from pipeline.reporting.figures import style
from pipeline.reporting.figures.style import FigureEntry, Picture, keep
from pipeline.reporting.read_table import CheckpointChoice, choices
from pipeline.reporting.rows import Row, Table, is_whole_split

Floats = NDArray[np.float64]
FRONTIER = "dvc repro frontier"
COLOURS = (*style.CYCLE, style.GREY)


def read_columns(path: Path, names: Sequence[str]) -> dict[str, Floats]:
    """Columns of a CSV file by name; an empty cell is NaN."""
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


def loss_figure(folder: Path, artifacts: Path, networks: Sequence[str]) -> FigureEntry:
    """Figure of the training losses; a placeholder where no network was trained."""
    caption = (
        "Loss as logged (thin) and its running mean (bold). Each curve is a mean over its own noise levels, "
        "so that heights compare within a network and not between them."
    )
    paths = {network: artifacts / f"curves/{network}.csv" for network in networks}
    read = {n: read_columns(path, ("images", "loss")) for n, path in paths.items() if path.exists()}
    read = {n: columns for n, columns in read.items() if len(columns["loss"])}  # not imported ones
    picture = Picture()
    if read:
        made = loss_curves({n: (columns["images"], columns["loss"]) for n, columns in read.items()})
        picture = keep(made, folder, "loss")
    return FigureEntry("Training", caption, "dvc repro train", (picture,))


@style.house
def loss_curves(curves: Mapping[str, tuple[Floats, Floats]]) -> Figure:
    """The training loss of each network over the images it has seen, thin as logged and bold as smoothed.

    Args:
        curves: network -> (images seen, loss), two arrays of one length.
    """
    figure = style.figure(2.9)
    axes = figure.subplots()
    for place, (network, (images, loss)) in enumerate(curves.items()):
        colour = style.CYCLE[place % len(style.CYCLE)]
        axes.plot(images, loss, color=colour, alpha=0.25, linewidth=0.7)
        dashes = style.DASHES[place % len(style.DASHES)]
        axes.plot(images, style.smoothed(loss), color=colour, linewidth=1.6, linestyle=dashes, label=network)
    values = np.concatenate([loss for _, loss in curves.values()])
    if values.min() > 0 and values.max() > 5 * values.min():
        log(axes, "y")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _thousands(value)))
    axes.set(xlabel="images seen in training", ylabel="training loss", xlim=(0, None))
    style.legend_above(axes)
    return figure


def choice_figures(folder: Path, artifacts: Path, names: Sequence[str]) -> Iterator[FigureEntry]:
    """FIDs by which checkpoints were chosen; none where no checkpoint was.

    Args:
        names: ROW and ROW-SEED.
    """
    found = choices(artifacts, names)
    if not found:
        return
    caption = (
        f"FID of each snapshot of a training, on {_counts(found)} samples by the sampler of the row, against "
        "the training images. The table is of the one with the lowest (hollow), on other samples: the lowest "
        "of many is too low. FIDs on other numbers of samples are not compared."
    )
    made = keep(choice_curves(found), folder, "selection")
    yield FigureEntry("FID against training steps", caption, "dvc repro generate", (made,))


@style.house
def choice_curves(found: Mapping[str, CheckpointChoice]) -> Figure:
    """A line per row, of that kind of samples which has its lowest FID, and a hollow mark there."""
    figure = style.figure(3.2)
    axes = figure.subplots()
    for place, (name, one) in enumerate(found.items()):
        fids = one.fids()
        colour, dashes = (cycle[place % len(cycle)] for cycle in (style.CYCLE, style.DASHES))
        label = f"{name}, {one.how}"
        axes.plot(list(fids), list(fids.values()), ".", color=colour, linestyle=dashes, label=label)
        axes.scatter(one.step, fids[one.step], s=70, facecolors="none", edgecolors=style.INK, zorder=4)
    log(axes, "y")
    axes.set(xlabel="training steps", ylabel=f"FID (N={_counts(found)})", xlim=(0, None))
    style.legend_above(axes, columns=2)
    return figure


def _counts(found: Mapping[str, CheckpointChoice]) -> str:
    return " or ".join(f"{n:,}" for n in sorted({one.num_samples for one in found.values()}))


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


@dataclass(frozen=True)
class FrontierCurves:
    """Frontier: FIDs of some samplers at some costs, all on the same number of samples."""

    curves: Mapping[str, tuple[Floats, Floats]]
    """Sampler -> (network evaluations per sample, FID), two arrays of one length, in order of cost."""
    num_samples: int


def frontier_figures(folder: Path, artifacts: Path, table: Table) -> Iterator[FigureEntry]:
    """Figure of the frontier; none where the run has none."""
    path = artifacts / "frontier/frontier.csv"
    if not path.exists():
        return
    found = read_frontier(path)
    whole = (row for row in table.rows if is_whole_split(row.reference_set, "train"))
    same = (row for row in whole if row.n == found.num_samples)
    marks = [row for row in same if row.measured]
    about = path.with_name("manifest.json")
    name = read_json(about).get("network") if about.exists() else None
    network = f"the network `{name}`" if name else "one network"
    beside = "the table's own points (hollow) and the floor" if marks else "no row of the table"
    caption = (
        f"FID on {found.num_samples:,} samples of {network} against the network evaluations per sample, for "
        "every sampler, against the training images. Next to them is what was measured on as many "
        f"samples, against the same images: {beside}."
    )
    made = keep(frontier_plot(found, marks), folder, "frontier")
    yield FigureEntry("FID against network evaluations", caption, FRONTIER, (made,))


def read_frontier(path: Path) -> FrontierCurves:
    """A frontier from its CSV: sampler, nfe, fid, num_samples."""
    numbers = read_columns(path, ("nfe", "fid", "num_samples"))
    names = np.array([row.get("sampler") or "" for row in read_rows(path)])
    counts = sorted(set(numbers["num_samples"].tolist()))
    if len(counts) != 1:
        raise UserError(
            f"{path} holds FIDs of different numbers of samples ({counts}): delete it and run `{FRONTIER}`."
        )
    good = np.isfinite(numbers["fid"])
    curves = {}
    for name in dict.fromkeys(names[good].tolist()):
        some = (names == name) & good
        order = np.argsort(numbers["nfe"][some], kind="stable")
        curves[name] = (numbers["nfe"][some][order], numbers["fid"][some][order])
    return FrontierCurves(curves, int(counts[0]))


@style.house
def frontier_plot(found: FrontierCurves, marks: Sequence[Row]) -> Figure:
    """A line per sampler, the table's own rows as hollow marks, the floor as a dashed line.

    Args:
        marks: measured rows of the table on the same number of samples, the floor maybe among them.
    """
    figure = style.figure(3.6)
    axes = figure.subplots()
    for place, (name, (nfe, fid)) in enumerate(found.curves.items()):
        marker, dashes = (cycle[place % len(cycle)] for cycle in (style.MARKERS, style.DASHES))
        colour = COLOURS[place % len(COLOURS)]
        axes.plot(nfe, fid, color=colour, marker=marker, markersize=4, linestyle=dashes, linewidth=1.3, label=name)
    own = [(row.system, row.nfe, row.fid) for row in marks if not row.is_floor and row.nfe and row.fid]
    for place, system in enumerate(dict.fromkeys(name for name, _, _ in own)):
        axes.scatter(
            [nfe for name, nfe, _ in own if name == system],
            [fid for name, _, fid in own if name == system],
            s=70,
            facecolors="none",
            edgecolors=style.INK,
            marker=style.MARKERS[place % len(style.MARKERS)],
            label=f"{system} in the table",
            zorder=4,
        )
    for row in marks:
        if row.is_floor and row.fid is not None:
            axes.axhline(row.fid, color=style.GREY, linestyle="--", linewidth=1, label="held-out images (the floor)")
    log(axes, "x")
    log(axes, "y")
    axes.set(xlabel="network evaluations per sample", ylabel=f"FID (N={found.num_samples:,})")
    style.legend_above(axes, columns=4)
    return figure
