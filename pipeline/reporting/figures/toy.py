"""Figures 1, 2 and 3 of the 2019 paper (arXiv 1907.05600) from the numbers of `pipeline.toy`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from pipeline.reporting.figures import style
from pipeline.reporting.figures.style import FigureEntry, Picture
from pipeline.toy import ARRAYS, Divergence, LossCurve, SamplePanel, ScoreFields, ToyResults
from pipeline.toy.mixture import HALF_WIDTH, MEANS, Array

TITLES = {
    "exact": ("Exact samples", "drawn from the mixture"),
    "langevin": ("Langevin", "one level, no noise"),
    "annealed_convolution": ("Annealed, σ 20 to 1", "convolved: std √(1 + σ²)"),
    "annealed_released": ("Annealed, σ 20 to 1", "released: std σ"),
}
"""Title and subtitle of each panel of figure 3."""

PAPER = {"width": 32, "batch_size": 128, "steps": 50_000, "lr": 1e-3}
"""Figure 1's setting in the paper, on CIFAR-10."""


# Title and caption of each figure.
TOYS = {
    "fig1": (
        "Toy: the loss without noise",
        "Sliced score matching of a residual auto-encoder on this data set, without noise and with a little: "
        "pixels of few grey levels leave the loss without a lower bound, noise gives it one. The network and "
        "its training are smaller than the paper's, as written below. (Fig 1 of arXiv 1907.05600.)",
    ),
    "fig2": (
        "Toy: score fields",
        "The score of the two-mode mixture, exact and as a network learnt it by sliced score matching: right "
        "where there are data, wrong where there are none. (Fig 2 of arXiv 1907.05600.)",
    ),
    "fig3": (
        "Toy: why the noise is annealed",
        "Samples of the mixture by plain and by annealed Langevin dynamics with exact scores, and the share "
        "of them in each mode. The paper states two ladders for one step of 0.1. Appendix B.1's, 20 to 1 "
        "(above), works. Section 4.3's, 10 to 0.1 (below), makes every sample about four times as large in "
        "each iteration, until all are NaN. (Fig 3 of arXiv 1907.05600.)",
    ),
}


def toy_entries(folder: Path, artifacts: Path, data: str) -> Iterator[FigureEntry]:
    """Draw figures 1, 2 and 3 in the folder from what the stage `toy` saved; entries without pictures before it ran.

    Args:
        data: the data set's name.
    """
    found = ToyResults.load(artifacts / "toy") if (artifacts / "toy" / ARRAYS).exists() else None
    drawn = _drawn(found, data) if found else {}
    for name, (title, caption) in TOYS.items():
        files = style.save(drawn[name], folder, f"toy_{name}") if name in drawn else ()
        yield FigureEntry(title, caption, "dvc repro toy", (Picture(tuple(files)),))


def _drawn(found: ToyResults, data: str) -> dict[str, Figure]:
    return {
        "fig1": toy_loss_curves(found.curves, data, found.losses),
        "fig2": score_fields(found.fields),
        "fig3": toy_samples(found.panels, found.divergences),
    }


@style.house
def toy_loss_curves(curves: Sequence[LossCurve], data: str, setting: Mapping[str, float]) -> Figure:
    """Figure 1: the loss of each batch (thin) and its running mean (bold), a panel for each sigma.

    Args:
        data: the data set's name.
        setting: width, batch_size, steps and lr of the trainings, to be printed next to the paper's.
    """
    figure = style.figure(2.5)
    for axes, curve in zip(figure.subplots(1, len(curves), sharex=True, sharey=True), curves, strict=True):
        fluctuation = f"fluctuation at the end: {curve.metrics()['fluctuation']:.0%}"
        _titles(axes, f"Noise σ = {curve.sigma:g}" if curve.sigma else "No noise", fluctuation)
        steps = np.arange(1, len(curve.losses) + 1)
        axes.plot(steps, curve.losses, color=style.BLUE, linewidth=0.6, alpha=0.6)
        axes.plot(steps, style.smoothed(curve.losses.astype(np.float64)), color=style.VERMILION)
        axes.set_xlabel("step")
    figure.axes[0].set_ylabel("sliced score matching")
    figure.axes[0].yaxis.set_major_formatter("{x:,.4g}")
    figure.supxlabel(f"{data}; {_beside_the_papers(setting)}", size=7.5, color=style.GREY)
    return figure


def _beside_the_papers(setting: Mapping[str, float]) -> str:
    what = "the paper's" if all(setting[key] == value for key, value in PAPER.items()) else "reduced"
    return (
        f"{what}: filters {setting['width']} to {4 * setting['width']} (paper: 32 to 128), "
        f"batch {setting['batch_size']} (128), {setting['steps']:,} steps (50,000), "
        f"learning rate {setting['lr']:g} (0.001)"
    )


@style.house
def score_fields(fields: ScoreFields) -> Figure:
    """Figure 2: the true and the estimated score on one scale, and where they differ.

    The circles hold 86 % of each mode's samples (two standard deviations): the network has seen data there.
    """
    figure = style.figure(2.75)
    true, estimated, error = figure.subplots(1, 3, sharex=True, sharey=True)
    _arrows(true, fields, fields.true, "True score")
    _arrows(estimated, fields, fields.estimated, "Estimated score")
    difference = np.linalg.norm(fields.estimated - fields.true, axis=-1)
    mesh = error.pcolormesh(
        fields.points[..., 0],
        fields.points[..., 1],
        np.log10(difference),
        cmap=style.SEQUENTIAL,
        shading="nearest",
        vmin=-1,
        vmax=1,
        rasterized=True,
    )
    error.set_title("Distance between them")
    bar = figure.colorbar(mesh, ax=error, ticks=[-1, 0, 1], shrink=0.82, pad=0.03, extend="both")
    bar.ax.set_yticklabels(["0.1", "1", "10"])
    bar.outline.set_visible(False)
    for axes in (true, estimated, error):
        _square(axes)
        for mean in MEANS:
            axes.add_patch(Circle(mean, 2, fill=False, color=style.VERMILION, linewidth=1.1))
    true.set_ylabel("x$_2$")
    return figure


def _arrows(axes: Axes, fields: ScoreFields, score: Array, title: str) -> None:
    """Arrows of the score at every point, over the density; all panels share the arrows' scale."""
    x, y = fields.points[..., 0], fields.points[..., 1]
    edge = HALF_WIDTH * (1 + 1 / (len(x) - 1))
    axes.imshow(
        fields.log_density,
        extent=(-edge, edge, -edge, edge),
        origin="lower",
        interpolation="bicubic",
        cmap="Blues",
        alpha=0.7 * np.clip(1 + fields.log_density / 12, 0, 1),  # the ground, light or dark, where there is none
        vmin=-12,
        vmax=-1,
    )
    axes.quiver(
        x,
        y,
        score[..., 0],
        score[..., 1],
        color=style.INK,
        angles="xy",
        scale_units="xy",
        scale=6.5,
        width=0.0045,
        headwidth=4,
        headlength=4.5,
    )
    axes.set_title(title)


@style.house
def toy_samples(panels: Sequence[SamplePanel], divergences: Sequence[Divergence]) -> Figure:
    """Figure 3: samples by each method with the share of them in each mode; below, the ladder that fails."""
    figure = style.figure(4.75)
    above, below = figure.subfigures(2, 1, height_ratios=[2.65, 2.1], squeeze=False).ravel()
    for axes, panel in zip(above.subplots(1, len(panels), sharex=True, sharey=True), panels, strict=True):
        _titles(axes, *TITLES[panel.name])
        axes.scatter(*panel.samples.T, s=2.5, color=style.BLUE, alpha=0.6, linewidths=0, rasterized=True)
        _share(axes, (5, -1.0), panel.fraction)
        _share(axes, (-5, 1.0), 1 - panel.fraction)
        _square(axes)
        axes.set(xlim=(-10.5, 10.5), ylim=(-10.5, 10.5))
        axes.set_xlabel(f"x$_1$\nstd within a mode: {panel.spread:.2f}")
    above.axes[0].set_ylabel("x$_2$")
    for axes, divergence in zip(below.subplots(1, len(divergences), sharey=True), divergences, strict=True):
        _failure(axes, divergence)
    below.axes[0].set_ylabel("largest coordinate")
    return figure


def _failure(axes: Axes, divergence: Divergence) -> None:
    """Growth of the samples up to the iteration after which one is NaN."""
    end = divergence.finite + 1
    _titles(axes, "Annealed, σ 10 to 0.1", TITLES[divergence.name][1])
    axes.semilogy(np.arange(1, end), divergence.sizes, color=style.VERMILION, marker=".")
    axes.axvline(end, color=style.GREY, linewidth=0.8, linestyle="--")
    where = f"NaN after iteration {end}\nof 1,000, in level {divergence.level} of 10"
    axes.text(0.93, 0.08, where, transform=axes.transAxes, ha="right", size=7.5)
    axes.set(xlabel="iteration", xlim=(0, end + 1))


def _titles(axes: Axes, title: str, subtitle: str) -> None:
    axes.set_title(title, pad=15)
    axes.text(0, 1.03, subtitle, transform=axes.transAxes, size=7.5, color=style.GREY)


def _share(axes: Axes, place: tuple[float, float], fraction: float) -> None:
    axes.text(*place, f"{fraction:.1%}", ha="center", va="center", weight="bold", size=9, color=style.INK)


def _square(axes: Axes) -> None:
    axes.set(xlim=(-HALF_WIDTH, HALF_WIDTH), ylim=(-HALF_WIDTH, HALF_WIDTH), aspect="equal", xlabel="x$_1$")
    axes.set(xticks=[-5, 0, 5], yticks=[-5, 0, 5])
    axes.grid(False)
