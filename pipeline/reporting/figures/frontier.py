"""Frontier: FID against the network evaluations that it costs, for every sampler on one network."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from pipeline.files import read_json
from pipeline.ncsn.errors import UserError
from pipeline.reporting.figures import curves as lines
from pipeline.reporting.figures import style
from pipeline.reporting.figures.curves import Floats
from pipeline.reporting.figures.style import FigureEntry, keep
from pipeline.reporting.rows import Row, Table, is_whole_split

COMMAND = "dvc repro frontier"
COLOURS = (*style.CYCLE, style.GREY)


@dataclass(frozen=True)
class FrontierCurves:
    """Frontier: FIDs of some samplers at some costs, all on the same number of samples."""

    curves: Mapping[str, tuple[Floats, Floats]]
    """Sampler -> (network evaluations per sample, FID), two arrays of one length, the cheapest first."""
    num_samples: int


def frontier_figures(folder: Path, artifacts: Path, table: Table) -> Iterator[FigureEntry]:
    """The figure; none where the run has no frontier.

    Raises:
        UserError: artifacts/frontier/frontier.csv cannot be read.
    """
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
    yield FigureEntry("FID against network evaluations", caption, COMMAND, (made,))


def read_frontier(path: Path) -> FrontierCurves:
    """A frontier from its CSV: sampler, nfe, fid, num_samples.

    Raises:
        UserError: a column is missing, a cell is no number, or the FIDs are of different numbers of samples.
    """
    numbers = lines.read_columns(path, ("nfe", "fid", "num_samples"))
    names = np.array([row.get("sampler") or "" for row in lines.read_rows(path)])
    counts = sorted(set(numbers["num_samples"].tolist()))
    if len(counts) != 1:
        raise UserError(
            f"{path} holds FIDs of different numbers of samples ({counts}): delete it and run `{COMMAND}`."
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
        axes.plot(
            nfe, fid, color=colour, marker=marker, markersize=4, linestyle=dashes, linewidth=1.3, label=name
        )
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
            axes.axhline(
                row.fid, color=style.GREY, linestyle="--", linewidth=1, label="held-out images (the floor)"
            )
    lines.log(axes, "x")
    lines.log(axes, "y")
    axes.set(xlabel="network evaluations per sample", ylabel=f"FID (N={found.num_samples:,})")
    style.legend_above(axes, columns=4)
    return figure
