"""Figures of samples: next to real images, on their way from noise to data, completions and neighbours."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.files import read_json
from pipeline.metrics.drawn import Drawn
from pipeline.ncsn.errors import UserError
from pipeline.pictures import Images, mosaic
from pipeline.reporting import verdict
from pipeline.reporting.figures import grids, style
from pipeline.reporting.figures.grids import CELL, EDGE, GridPanel, Group
from pipeline.reporting.figures.style import FigureEntry, Picture, keep
from pipeline.reporting.rows import Row, Table

ANIMATION = "from_noise.png"
FRAME_MS, LAST_MS = 350, 2500
TEXT = "#7a7a7a"
"""Readable on white and on black: the ground is transparent."""
LABEL = 200
"""Width of the column of names, in device pixels."""
LEVELS_SHOWN = 12
HERO = (4, 6)
"""Rows and columns of a panel of the picture at the top."""
VEIL = 205
"""Grey of what the sampler is not shown."""
SPACES = {"pixels": "nearest in pixels", "features": "nearest in features"}


def sample_grids(folder: Path, artifacts: Path, table: Table, real: Images, grid: Sequence[int]) -> FigureEntry:
    """Samples of each row next to real images.

    Args:
        real: training images, uint8 (n, C, H, W).
        grid: rows and columns of each panel.
    """
    panels = [GridPanel("real", f"{table.data}, training images", real)]
    for row in filter(None, (nearest_to_floor(table, system) for system in table.drawn())):
        path = artifacts / f"samples/{row.system}/{row.kind}.npy"
        images = np.load(path, mmap_mode="r", allow_pickle=False)
        panels.append(GridPanel(row.system, f"{row.how}, FID {row.fid:.4g} (N={row.n:,})", images))
    caption = (
        f"The first {grid[0] * grid[1]} images of each set in their order, none picked. Of each row those "
        "with or without the last denoising step are shown, whichever have the lower FID. Every pixel is a "
        "square."
    )
    made = keep(grids.grid(panels, *grid), folder, "samples")
    return FigureEntry("Samples next to real images", caption, "dvc repro generate", (made,))


def hero_figure(folder: Path, artifacts: Path, table: Table, real: Images) -> FigureEntry | None:
    """Real images beside samples of the row that is nearest to them, large; None where no row was measured."""
    row = verdict.best(table)
    if row is None:
        return None
    drawn = np.load(artifacts / f"samples/{row.system}/{row.kind}.npy", mmap_mode="r", allow_pickle=False)
    panels = [GridPanel("real", "training images", real), GridPanel(row.system, row.how, drawn)]
    caption = "The first images of both sets in their order, none picked."
    made = keep(grids.grid(panels, *HERO), folder, "hero")
    return FigureEntry("What was found", caption, "dvc repro generate", (made,))


def nearest_to_floor(table: Table, system: str) -> Row | None:
    """The better of a system's two rows by FID; None where neither was measured."""
    rows = [row for row in (table.row(system, False), table.row(system, True)) if row and row.measured]
    return min(rows, key=lambda row: row.fid or 0.0, default=None)


@dataclass(frozen=True)
class Way:
    """Samples on their way: the first of a row after each of some of its levels."""

    row: str
    kind: str
    """The sampler's."""
    images: Images
    """(levels, n, C, H, W) uint8."""
    sigmas: tuple[float, ...]
    """The noise left after each of these levels."""

    def labels(self) -> list[str]:
        """`σ = 1`, and then the other levels' numbers alone."""
        first, *rest = (f"{sigma:.2g}" for sigma in self.sigmas)
        return [f"σ = {first}", *rest]

    def at(self, share: float) -> int:
        """The level at a share of the way, 0 the first and 1 the last."""
        return round(share * (len(self.images) - 1))


def read_way(artifacts: Path, row: str) -> Way | None:
    """Intermediate samples of a row; None where `generate` has not run."""
    path = artifacts / f"samples/{row}/intermediate.npy"
    if not path.exists():
        return None
    images = np.load(path, mmap_mode="r", allow_pickle=False)
    sampler = Drawn.read(path.parent).sampler
    ladder = sampler.ladder.sigmas()
    kept = np.linspace(0, len(ladder) - 1, len(images)).round().astype(int)
    return Way(row, sampler.kind, images, tuple(float(ladder[level]) for level in kept))


def ways_figure(folder: Path, artifacts: Path, rows: Sequence[str]) -> FigureEntry:
    """Samples on their way from noise to data: an animation of all rows, and a strip for each."""
    caption = (
        "Samples on their way through the noise levels. Moving: eight samples of each row, all rows at the "
        "same share of their levels. Standing: each line is one sample, at the end of the noise level "
        "written above it. Values outside [0, 1] are clamped for display only. (Fig 4 of arXiv 1907.05600.)"
    )
    ways = [way for way in (read_way(artifacts, row) for row in rows) if way]
    found = [animation(folder, ways)] if ways else []
    for row in rows:
        way = next((way for way in ways if way.row == row), None)
        if way is None:
            found.append(Picture(label=row))
            continue
        made = grids.strip(way.images, way.labels(), columns=LEVELS_SHOWN)
        found.append(keep(made, folder, f"intermediate_{row}", label=f"{row}, by {way.kind}"))
    return FigureEntry("From noise to data", caption, "dvc repro generate", tuple(found))


def animation(folder: Path, ways: Sequence[Way]) -> Picture:
    """Write the animation; a frame for each level of the longest way."""
    count = max(len(way.images) for way in ways)
    shares = [i / max(count - 1, 1) for i in range(count)]
    first, *rest = (frame(ways, share) for share in shares)
    times = [FRAME_MS] * (count - 1) + [LAST_MS]
    first.save(folder / ANIMATION, save_all=True, append_images=rest, duration=times, loop=0)
    return Picture((ANIMATION,), "all rows")


def frame(ways: Sequence[Way], share: float) -> Image.Image:
    """All rows at a share of their levels, a line of samples each, with the name and the noise level."""
    lines = [_line(way.images[way.at(share)]) for way in ways]
    width, pitch = LABEL + max(line.shape[1] for line in lines), max(line.shape[0] for line in lines) + EDGE
    canvas = Image.new("RGBA", (width + 2 * EDGE, pitch * len(lines) + EDGE), (255, 255, 255, 0))
    draw = ImageDraw.Draw(canvas)
    bold, plain = _font("DejaVuSans-Bold", 9), _font("DejaVuSans", 8)
    for place, (way, line) in enumerate(zip(ways, lines, strict=True)):
        top, middle = EDGE + place * pitch, EDGE + place * pitch + line.shape[0] / 2
        draw.text((EDGE, middle - 4), way.row, TEXT, bold, anchor="ls")
        draw.text((EDGE, middle + 6), f"σ = {way.sigmas[way.at(share)]:.2g}", TEXT, plain, anchor="lt")
        canvas.paste(Image.fromarray(line), (EDGE + LABEL, top))
    return canvas


def _line(images: Images) -> Images:
    factor = max(1, CELL // images.shape[3])
    return mosaic(images, 1, len(images), factor, gap=max(2, factor // 3))


def _font(name: str, points: float) -> ImageFont.FreeTypeFont:
    path = Path(matplotlib.get_data_path()) / f"fonts/ttf/{name}.ttf"
    return ImageFont.truetype(path, round(points * style.DPI / 72))


def completion_figures(folder: Path, artifacts: Path, table: Table) -> Iterator[FigureEntry]:
    """Held-out images completed from their left halves, by the best row that has any by FID; maybe none."""
    caption = (
        "Held-out images of which the left half is kept (grey: what the sampler is not shown), independent "
        "completions, and the original. By the network of the row of lowest FID, and annealed Langevin dynamics: "
        "the row's own, or on levels and with a step by techniques 2 and 4 of NCSNv2. (Algorithm 2 and Fig 6 of "
        "arXiv 1907.05600.)"
    )
    paths = {row: artifacts / f"samples/{row}/inpainting.npy" for row in table.drawn()}
    there = [row for row, path in paths.items() if path.exists()]
    if there:
        best = min(there, key=lambda row: _lowest_fid(table, row))
        yield FigureEntry("Images completed", caption, "dvc repro generate", (_completed(folder, best, paths[best]),))


def _lowest_fid(table: Table, system: str) -> float:
    row = nearest_to_floor(table, system)
    return math.inf if row is None or row.fid is None else row.fid


def _completed(folder: Path, row: str, path: Path) -> Picture:
    completed: Images = np.load(path, allow_pickle=False)
    originals = completed[:, :1]
    groups = [
        Group("known", masked(originals)),
        Group("completions", completed[:, 1:]),
        Group("original", originals),
    ]
    return keep(grids.groups(groups), folder, f"inpainting_{row}", label=row)


def masked(images: Images) -> Images:
    """Images (..., W) with their right halves veiled, as `generate` hides them."""
    veiled = images.copy()
    veiled[..., images.shape[-1] // 2 :] = VEIL
    return veiled


def neighbour_figures(folder: Path, artifacts: Path, rows: Sequence[str], train: Images) -> Iterator[FigureEntry]:
    """Training images nearest to the first samples, a picture for each row; none where none was evaluated.

    Args:
        train: the training images, uint8 (n, C, H, W), that the indices count.
    """
    caption = (
        "The first denoised samples, and the training images nearest to each by the Euclidean distance, the "
        "nearest first: a network that had memorised its data would repeat them. (Figs 9 and 10 of arXiv "
        "1907.05600.)"
    )
    found = tuple(_neighbours(folder, artifacts, row, train) for row in rows)
    if made := tuple(picture for picture in found if picture):
        yield FigureEntry("Nearest training images", caption, "dvc repro evaluate", made)


def _neighbours(folder: Path, artifacts: Path, row: str, train: Images) -> Picture | None:
    path = artifacts / f"evaluation/{row}.json"
    nearest = read_json(path).get("neighbours") if path.exists() else None
    if not nearest:
        return None
    indices = {space: _indices(nearest, space, path, len(train)) for space in SPACES}
    samples = np.load(artifacts / f"samples/{row}/denoised.npy", mmap_mode="r", allow_pickle=False)
    count = min(len(samples), *(len(rows) for rows in indices.values()))
    groups = [Group("sample", samples[:count, None])]
    groups += [Group(title, train[indices[space][:count]]) for space, title in SPACES.items()]
    return keep(grids.groups(groups), folder, f"neighbours_{row}", label=row)


def _indices(nearest: object, space: str, path: Path, count: int) -> np.ndarray:
    try:
        found = np.array(nearest[space])  # type: ignore[index]
        if found.ndim == 2 and found.dtype.kind == "i" and found.min() >= 0 and found.max() < count:
            return found
    except (KeyError, TypeError, ValueError):
        pass
    raise UserError(
        f"{path}: neighbours.{space} does not hold rows of indices of the {count:,} training images: "
        "delete it and run `dvc repro`."
    )
