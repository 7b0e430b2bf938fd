"""FID over two settings of a search at a time: contours between its trials, or the trials where they are few."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.tri import LinearTriInterpolator, Triangulation, UniformTriRefiner

from pipeline.reporting.figures import curves, style
from pipeline.reporting.figures.style import FigureEntry, keep

Pair = tuple[str, str]
LABELS = {
    "sigma_max": "σ$_1$, largest noise level",
    "sigma_min": "σ$_L$, smallest noise level",
    "num_levels": "L, number of levels",
    "nfe": "network evaluations per sample",
}
SEARCHES: dict[str, tuple[str, tuple[Pair, Pair]]] = {
    "tune_noise": ("Noise range", (("sigma_max", "sigma_min"), ("sigma_max", "num_levels"))),
    "tune_sampler": ("Sampler search", (("nfe", "sigma_max"), ("nfe", "sigma_min"))),
}
"""The stage of a search, which is its folder in artifacts/: its name, the settings against each other."""
LEVELS = 12
FEWEST = 15
"""Trials below which contours would show the lines between them rather than the search."""


@dataclass(frozen=True)
class Mapped:
    """Trials of a search that have an FID and every setting of some pairs, all above 0."""

    fid: np.ndarray
    """(n,)"""
    whole: np.ndarray
    """(n,) bool: not stopped before the largest budget."""
    places: list[tuple[np.ndarray, np.ndarray]]
    """By pair, its two settings, (n,) each."""

    @classmethod
    def read(cls, rows: Sequence[dict[str, str]], pairs: Sequence[Pair]) -> "Mapped":
        """From rows of trials.csv."""
        needed = {"fid", *(name for pair in pairs for name in pair)}
        good = [row for row in rows if row.get("status") != "failed" and all(row.get(name) for name in needed)]
        column = {name: np.array([float(row[name]) for row in good]) for name in needed}
        whole = np.array([row["status"] == "finished" for row in good], bool)
        return cls(column["fid"], whole, [(column[x], column[y]) for x, y in pairs])


def contour_figures(folder: Path, artifacts: Path, stage: str) -> Iterator[FigureEntry]:
    """The figure of a search for the page, points where trials are few; none without trials that differ in FID."""
    name, pairs = SEARCHES[stage]
    path, command = artifacts / stage / "trials.csv", f"dvc repro {stage}"
    tried = Mapped.read(curves.read_rows(path) if path.exists() else [], pairs)
    many = len(tried.fid) >= FEWEST
    made = (contours if many else points)(tried, pairs)
    if made is None:
        return
    picture = keep(made, folder, f"contour_{stage.removeprefix('tune_')}")
    yield FigureEntry(f"{name}: {TITLES[many]}", CAPTIONS[many].format(stage), command, (picture,))


TITLES = {True: "FID between the trials", False: "FID over two settings"}
CAPTIONS = {
    True: "FID of the trials of `{}` over two settings at a time, linear in logarithms between "
    "neighbouring trials: nothing was tried where there is no colour. Hollow: stopped, its FID of fewer "
    "steps or samples. Other settings vary from trial to trial: a map of what was tried, no surface.",
    False: "FID of the trials of `{}`, as colour, over two settings at a time. Small: stopped, its FID of fewer "
    f"steps or samples. Of {FEWEST} trials or more, contours between them are drawn.",
}
"""By whether contours are drawn."""


@style.house
def contours(tried: Mapped, pairs: Sequence[Pair]) -> Figure | None:
    """A panel of contours for each pair of settings; None where fewer than three trials, or all on a line."""
    fid = tried.fid
    if len(fid) < 3:
        return None
    maps = [found for x, y in tried.places if (found := _between(x, y, fid))]
    if len(maps) < len(pairs) or fid.min() == fid.max():
        return None
    figure, panels = _panels(pairs)
    norm, levels = LogNorm(fid.min(), fid.max()), np.geomspace(fid.min(), fid.max(), LEVELS)
    for panel, (x, y), (triangles, z) in zip(panels, tried.places, maps, strict=True):
        filled = panel.tricontourf(triangles, z, levels=levels, norm=norm, cmap=style.SEQUENTIAL, extend="both")
        _dots(panel, x, y, tried.whole)
        _scales(panel)
    _bar(figure, filled, panels, levels[[0, LEVELS // 2, -1]])
    return figure


@style.house
def points(tried: Mapped, pairs: Sequence[Pair]) -> Figure | None:
    """A panel for each pair of settings with a point for each trial, coloured by its FID; None where all are equal."""
    fid = tried.fid
    if not len(fid) or fid.min() == fid.max():
        return None
    figure, panels = _panels(pairs)
    norm, sizes = LogNorm(fid.min(), fid.max()), np.where(tried.whole, 70, 22)
    for panel, (x, y) in zip(panels, tried.places, strict=True):
        shown = panel.scatter(
            x, y, s=sizes, c=fid, norm=norm, cmap=style.SEQUENTIAL, edgecolors=style.INK, linewidths=0.8, zorder=3
        )
        _scales(panel)
    _bar(figure, shown, panels, np.geomspace(fid.min(), fid.max(), 3))
    return figure


def _panels(pairs: Sequence[Pair]) -> tuple[Figure, list[Axes]]:
    figure = style.figure(2.9)
    panels = list(np.atleast_1d(figure.subplots(1, len(pairs))))
    for panel, pair in zip(panels, pairs, strict=True):
        panel.set(xlabel=LABELS[pair[0]], ylabel=LABELS[pair[1]])
    return figure, panels


def _between(x: np.ndarray, y: np.ndarray, fid: np.ndarray) -> tuple[Triangulation, np.ndarray] | None:
    """Fine triangles and the FID at their corners, linear in logarithms; None for points that span none."""
    try:
        coarse = Triangulation(np.log(x), np.log(y))
    except (ValueError, RuntimeError):
        return None
    linear = LinearTriInterpolator(coarse, np.log(fid))
    fine, z = UniformTriRefiner(coarse).refine_field(np.log(fid), triinterpolator=linear, subdiv=4)
    return Triangulation(np.exp(fine.x), np.exp(fine.y), fine.triangles), np.exp(z).clip(fid.min(), fid.max())


def _dots(panel: Axes, x: np.ndarray, y: np.ndarray, whole: np.ndarray) -> None:
    for some, face in ((whole, style.INK), (~whole, "white")):
        panel.scatter(x[some], y[some], s=14, facecolors=face, edgecolors=style.INK, linewidths=0.8, zorder=3)


def _scales(panel: Axes) -> None:
    panel.use_sticky_edges = False  # a dot on the edge is seen whole
    panel.set(xscale="log", yscale="log")
    panel.margins(0.06)
    curves.log(panel, "x")
    curves.log(panel, "y")


def _bar(figure: Figure, coloured: ScalarMappable, panels: list[Axes], ends: np.ndarray) -> None:
    bar = figure.colorbar(coloured, ax=panels, ticks=list(ends), label="FID of the trial")
    bar.ax.set_yticklabels([f"{value:.3g}" for value in ends])
    bar.ax.minorticks_off()
