"""Contours of FID over two settings of a search at a time, coloured between its trials only."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.contour import ContourSet
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


def contour_figures(folder: Path, artifacts: Path, stage: str) -> Iterator[FigureEntry]:
    """The figure of a search for the page; none where it has not run, or too few trials span an area."""
    name, pairs = SEARCHES[stage]
    path = artifacts / stage / "trials.csv"
    made = contours(curves.read_rows(path), pairs) if path.exists() else None
    if made is None:
        return
    caption = (
        f"FID of the trials of `{stage}` over two settings at a time, linear in logarithms between "
        "neighbouring trials: nothing was tried where there is no colour. Hollow: stopped, its FID of fewer "
        "steps or samples. Other settings vary from trial to trial: a map of what was tried, no surface."
    )
    picture = keep(made, folder, f"contour_{stage.removeprefix('tune_')}")
    yield FigureEntry(f"{name}: FID between the trials", caption, f"dvc repro {stage}", (picture,))


@style.house
def contours(rows: Sequence[dict[str, str]], pairs: Sequence[Pair]) -> Figure | None:
    """A panel for each pair of settings; None where fewer than three trials have them, or all on a line.

    Args:
        rows: of trials.csv; settings and FID above 0.
    """
    needed = {"fid", *(name for pair in pairs for name in pair)}
    good = [row for row in rows if row.get("status") != "failed" and all(row.get(name) for name in needed)]
    if len(good) < 3:
        return None
    fid = np.array([float(row["fid"]) for row in good])
    whole = np.array([row["status"] == "finished" for row in good])
    points = [tuple(np.array([float(row[name]) for row in good]) for name in pair) for pair in pairs]
    maps = [found for x, y in points if (found := _between(x, y, fid))]
    if len(maps) < len(pairs) or fid.min() == fid.max():
        return None
    figure = style.figure(2.9)
    panels = figure.subplots(1, len(pairs))
    norm, levels = LogNorm(fid.min(), fid.max()), np.geomspace(fid.min(), fid.max(), LEVELS)
    for panel, pair, (x, y), (triangles, z) in zip(panels, pairs, points, maps, strict=True):
        filled = panel.tricontourf(triangles, z, levels=levels, norm=norm, cmap=style.SEQUENTIAL, extend="both")
        _dots(panel, x, y, whole)
        panel.set(xlabel=LABELS[pair[0]], ylabel=LABELS[pair[1]])
    _bar(figure, filled, panels, levels)
    return figure


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
    panel.use_sticky_edges = False  # a dot on the edge is seen whole
    panel.set(xscale="log", yscale="log")
    panel.margins(0.06)
    curves.log(panel, "x")
    curves.log(panel, "y")


def _bar(figure: Figure, filled: ContourSet, panels: Sequence[Axes], levels: np.ndarray) -> None:
    ends = [levels[0], levels[len(levels) // 2], levels[-1]]
    bar = figure.colorbar(filled, ax=list(panels), ticks=ends, label="FID of the trial")
    bar.ax.set_yticklabels([f"{value:.3g}" for value in ends])
    bar.ax.minorticks_off()
