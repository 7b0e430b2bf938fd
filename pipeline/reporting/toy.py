"""Figures 2 and 3 of the 2019 paper (arXiv 1907.05600) from the numbers of `pipeline.toy`."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from pipeline.reporting import style
from pipeline.toy import HALF_WIDTH, MEANS, Array, Panel, ScoreFields

TITLES = {
    "exact": ("Exact samples", "drawn from the mixture"),
    "langevin": ("Langevin", "one level, no noise"),
    "annealed_convolution": ("Annealed, convolved", "mode std √(1 + σ²) at level σ"),
    "annealed_released": ("Annealed, released", "mode std σ at level σ"),
}
"""What each panel of figure 3 is called, and what tells it from its neighbour."""


@style.house
def score_fields(fields: ScoreFields) -> Figure:
    """Figure 2: the true and the estimated score on one scale, and where they differ.

    The circles hold 86 % of each mode's samples (two standard deviations): there has the network seen data.
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
        alpha=0.55,
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
def samples(panels: Sequence[Panel]) -> Figure:
    """Figure 3: samples of the mixture by each method, with the share of them in each mode."""
    figure = style.figure(2.65)
    for axes, panel in zip(figure.subplots(1, len(panels), sharex=True, sharey=True), panels, strict=True):
        title, subtitle = TITLES[panel.name]
        axes.set_title(title, pad=15)
        axes.text(0, 1.03, subtitle, transform=axes.transAxes, size=7.5, color=style.GREY)
        axes.scatter(*panel.samples.T, s=2.5, color=style.BLUE, alpha=0.35, linewidths=0, rasterized=True)
        _share(axes, (5, -1.0), panel.fraction)
        _share(axes, (-5, 1.0), 1 - panel.fraction)
        _square(axes)
        axes.set(xlim=(-10.5, 10.5), ylim=(-10.5, 10.5))
        axes.set_xlabel(f"x$_1$\nstd within a mode: {panel.spread:.2f}")
    figure.axes[0].set_ylabel("x$_2$")
    return figure


def _share(axes: Axes, place: tuple[float, float], fraction: float) -> None:
    axes.text(*place, f"{fraction:.1%}", ha="center", va="center", weight="bold", size=9, color=style.INK)


def _square(axes: Axes) -> None:
    axes.set(xlim=(-HALF_WIDTH, HALF_WIDTH), ylim=(-HALF_WIDTH, HALF_WIDTH), aspect="equal", xlabel="x$_1$")
    axes.set(xticks=[-5, 0, 5], yticks=[-5, 0, 5])
    axes.grid(False)
