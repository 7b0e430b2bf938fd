"""Grids of images, enlarged by whole factors, so that every pixel of the data is a square."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from pipeline.pictures import Images, mosaic
from pipeline.reporting.figures import style

TITLE, EDGE, GUTTER = 46, 16, 44
"""Height of a title, the outer margin and the space between panels, in device pixels."""
CELL = 64
"""Side of an image among others of its row, at most, in device pixels; a larger one is not enlarged."""


@dataclass(frozen=True)
class GridPanel:
    """Panel of a grid: a titled mosaic of images."""

    title: str
    note: str
    images: Images
    """(n, C, H, W) uint8 with C = 1 or 3; the first rows x columns of them are shown, uncurated."""


@style.house
def grid(panels: Sequence[GridPanel], rows: int, columns: int) -> Figure:
    """Mosaics side by side, two to a line, each with its title: what a reader compares by eye."""
    across = min(2, len(panels))
    available = (style.WIDTH * style.DPI - 2 * EDGE - (across - 1) * GUTTER) / across
    factor = max(1, int((available / columns - 1) // panels[0].images.shape[3]))
    pictures = [mosaic(p.images, rows, columns, factor, gap=1 + factor // 2) for p in panels]
    height, width, _ = pictures[0].shape
    pitch = max(width, int(available)) + GUTTER  # small pictures still leave room for their titles
    down = -(-len(panels) // across)
    size = (2 * EDGE + across * pitch - GUTTER, EDGE + down * (height + TITLE + EDGE))
    figure = style.figure(size[1] / style.DPI, width=size[0] / style.DPI, layout=None)
    for place, (panel, picture) in enumerate(zip(panels, pictures, strict=True)):
        left = EDGE + (place % across) * pitch
        bottom = size[1] - (place // across + 1) * (height + TITLE + EDGE)
        figure.figimage(picture, left, bottom, origin="upper")
        _title(figure, panel, left, bottom + height + 12, size)
    return figure


def _title(figure: Figure, panel: GridPanel, left: int, bottom: int, size: tuple[int, int]) -> None:
    """The title in bold and the note behind it, starting at a pixel of the figure."""
    text = figure.text(left / size[0], bottom / size[1], panel.title, weight="bold", size=9, va="bottom")
    extent = text.get_window_extent()
    behind = (extent.x1 + 14) / size[0]
    figure.text(behind, bottom / size[1], panel.note, color=style.GREY, size=8, va="bottom")


@style.house
def strip(intermediate: Images, labels: Sequence[str], *, rows: int = 4, columns: int = 12) -> Figure:
    """Samples on their way from noise to data, a row each: Fig 4 of the 2019 paper.

    Args:
        intermediate: (levels, n, C, H, W) uint8.
        labels: titles of the levels, as many as levels.
        rows: samples shown, at most n.
        columns: levels shown, evenly spread with the first and the last among them.
    """
    shown = np.unique(np.linspace(0, len(intermediate) - 1, columns).round().astype(int))
    images = intermediate[shown, :rows].swapaxes(0, 1)
    rows, columns = images.shape[:2]
    across = max(columns, 10)  # few levels are no reason for large images
    factor = max(1, int((style.WIDTH * style.DPI - 2 * EDGE) / across - 4) // images.shape[4])
    gap = max(2, factor // 3)
    picture = mosaic(images.reshape(-1, *images.shape[2:]), rows, columns, factor, gap)
    height, width, _ = picture.shape
    size = (width + 2 * EDGE, height + TITLE + EDGE)
    figure = style.figure(size[1] / style.DPI, width=size[0] / style.DPI, layout=None)
    figure.figimage(picture, EDGE, EDGE, origin="upper")
    cell = images.shape[4] * factor
    for place, level in enumerate(shown):
        middle = EDGE + place * (cell + gap) + cell / 2
        bottom = (EDGE + height + 10) / size[1]
        figure.text(middle / size[0], bottom, labels[level], size=7.5, ha="center", va="bottom")
    return figure


@dataclass(frozen=True)
class Group:
    """Group of columns of images under one title."""

    title: str
    images: Images
    """(rows, columns, C, H, W) uint8."""


@style.house
def groups(parts: Sequence[Group]) -> Figure:
    """Groups of columns side by side: in each row what belongs together.

    Args:
        parts: groups of the same number of rows.
    """
    side = parts[0].images.shape[4]
    factor = max(1, CELL // side)
    gap = max(2, factor // 3)
    made = [
        mosaic(p.images.reshape(-1, *p.images.shape[2:]), len(p.images), p.images.shape[1], factor, gap) for p in parts
    ]
    height = made[0].shape[0]
    width = sum(picture.shape[1] + GUTTER for picture in made) + 2 * EDGE
    size = (width + GUTTER, height + TITLE + EDGE)  # the last title may be wider than its images
    figure = style.figure(size[1] / style.DPI, width=size[0] / style.DPI, layout=None)
    left = EDGE
    for part, picture in zip(parts, made, strict=True):
        figure.figimage(picture, left, EDGE, origin="upper")
        figure.text(left / size[0], (EDGE + height + 12) / size[1], part.title, size=8, va="bottom")
        left += picture.shape[1] + GUTTER
    return figure
