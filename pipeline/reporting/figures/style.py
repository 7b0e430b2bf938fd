"""Style of every figure: fonts, colours, sizes, and how a figure becomes files and an entry of the page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Okabe & Ito (2008), "Color Universal Design": distinguishable with any common colour blindness.
BLUE, VERMILION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
PURPLE, SKY, INK, GREY, RULE = "#CC79A7", "#56B4E9", "#222222", "#6E6E6E", "#E4E4E4"
CYCLE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", "-.", ":")
SEQUENTIAL = ListedColormap(colormaps["viridis"](np.linspace(0.35, 0.8, 256)), "readable")
"""From dark to light, without the ends that a dark page or a white one would swallow."""

WIDTH = 7.2
"""Width of a full figure in inches: the text width of a paper page, and of a README at DPI."""
DPI = 200

Layout = Literal["constrained"] | None

_RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 6.0,
    "axes.labelsize": 8.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "text.color": INK,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "ncsn",
}

house = rc_context(_RC)
"""Decorator of every function that draws or saves: the settings hold inside it and nowhere else."""


@house
def figure(height: float, *, width: float = WIDTH, layout: Layout = "constrained") -> Figure:
    """An empty figure of `width` x `height` inches, bound to no window system."""
    made = Figure(figsize=(width, height), dpi=DPI, layout=layout)
    FigureCanvasAgg(made)
    return made


@house
def save(made: Figure, folder: Path, name: str, *, vector: bool = True) -> list[str]:
    """Write `name`.png, and `name`.svg where the figure is lines; returns the file names.

    The same figure gives the same bytes: neither file carries a date or a random id.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made.savefig(folder / f"{name}.png", dpi=DPI, metadata={"Software": None})
    if vector:
        made.savefig(folder / f"{name}.svg", metadata={"Date": None})
    return [f"{name}.png", f"{name}.svg"] if vector else [f"{name}.png"]


def legend_above(axes: Axes, *, columns: int = 6) -> None:
    """A legend in its own row above the axes, where it can cover no data."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=columns,
        borderaxespad=0.2,
        handlelength=2.6,
        columnspacing=1.6,
        handletextpad=0.5,
    )


def bare(axes: Axes) -> None:
    """Take ticks, grid and frame off axes that hold a picture."""
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)


@dataclass(frozen=True)
class Picture:
    """Picture of a figure, or the place of one whose stage has not run."""

    files: tuple[str, ...] = ()
    """File names in the figures folder, the PNG first; empty where the stage has not run."""
    label: str = ""
    """Its name among the figure's pictures."""


@dataclass(frozen=True)
class FigureEntry:
    """Figure of the page: its words, its pictures, and the command where there are none."""

    title: str
    caption: str
    command: str
    """What makes its data; of one picture alone: with @ and the label."""
    pictures: tuple[Picture, ...]

    @property
    def drawn(self) -> bool:
        """Whether there is any picture."""
        return any(picture.files for picture in self.pictures)


def keep(made: Figure, folder: Path, name: str, *, label: str = "") -> Picture:
    """Save a figure as name.png and name.svg."""
    return Picture(tuple(save(made, folder, name)), label)


def smoothed(values: NDArray[np.float64], share: float = 0.06) -> NDArray[np.float64]:
    """The centred running mean over a share of the curve, over less of it at the ends. (n,) -> (n,)."""
    half = max(1, int(len(values) * share / 2))
    total = np.concatenate([[0.0], np.cumsum(values)])
    place = np.arange(len(values))
    low, high = np.maximum(place - half, 0), np.minimum(place + half + 1, len(values))
    return np.asarray((total[high] - total[low]) / (high - low))
