"""Samples on their way from noise to data, moving: an animated PNG of all variants at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.files import read_json
from pipeline.ncsn.sampler import Sampler
from pipeline.reporting import style
from pipeline.reporting.figure_entry import Picture
from pipeline.reporting.grids import CELL, EDGE, Images, mosaic

NAME = "from_noise.png"
FRAME_MS, LAST_MS = 350, 2500
TEXT = "#7a7a7a"
"""Readable on white and on black: the ground is transparent."""
LABEL = 200
"""Width of the column of names, in device pixels."""


@dataclass(frozen=True)
class Way:
    """The first samples of a variant after each of some of its levels."""

    variant: str
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


def read(artifacts: Path, variant: str) -> Way | None:
    """What `generate` kept of a variant; None where it has not run.

    Raises:
        UserError: the samples' manifest is missing or damaged.
    """
    path = artifacts / f"samples/{variant}/intermediate.npy"
    if not path.exists():
        return None
    images = np.load(path, mmap_mode="r", allow_pickle=False)
    sampler = Sampler.read(read_json(path.with_name("manifest.json"))["sampler"])
    ladder = sampler.ladder.sigmas()
    kept = np.linspace(0, len(ladder) - 1, len(images)).round().astype(int)
    return Way(variant, sampler.kind, images, tuple(float(ladder[level]) for level in kept))


def picture(folder: Path, ways: Sequence[Way]) -> Picture:
    """Write the animation; a frame for each level of the longest way."""
    count = max(len(way.images) for way in ways)
    shares = [i / max(count - 1, 1) for i in range(count)]
    first, *rest = (frame(ways, share) for share in shares)
    times = [FRAME_MS] * (count - 1) + [LAST_MS]
    first.save(folder / NAME, save_all=True, append_images=rest, duration=times, loop=0)
    return Picture((NAME,), "all variants")


def frame(ways: Sequence[Way], share: float) -> Image.Image:
    """All variants at a share of their levels, a row of samples each, with the name and the noise level."""
    rows = [_row(way.images[way.at(share)]) for way in ways]
    width, pitch = LABEL + max(row.shape[1] for row in rows), max(row.shape[0] for row in rows) + EDGE
    canvas = Image.new("RGBA", (width + 2 * EDGE, pitch * len(rows) + EDGE), (255, 255, 255, 0))
    draw = ImageDraw.Draw(canvas)
    bold, plain = _font("DejaVuSans-Bold", 9), _font("DejaVuSans", 8)
    for place, (way, row) in enumerate(zip(ways, rows, strict=True)):
        top, middle = EDGE + place * pitch, EDGE + place * pitch + row.shape[0] / 2
        draw.text((EDGE, middle - 4), way.variant, TEXT, bold, anchor="ls")
        draw.text((EDGE, middle + 6), f"σ = {way.sigmas[way.at(share)]:.2g}", TEXT, plain, anchor="lt")
        canvas.paste(Image.fromarray(row), (EDGE + LABEL, top))
    return canvas


def _row(images: Images) -> Images:
    factor = max(1, CELL // images.shape[3])
    return mosaic(images, 1, len(images), factor, gap=max(2, factor // 3))


def _font(name: str, points: float) -> ImageFont.FreeTypeFont:
    path = Path(matplotlib.get_data_path()) / f"fonts/ttf/{name}.ttf"
    return ImageFont.truetype(path, round(points * style.DPI / 72))
