"""Any folder of images of one size and one pixel format; folders inside it are classes."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.readers.pictures import CHANNELS, decode, square
from pipeline.data.source import BLOCK, Block, Raw
from pipeline.errors import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


def read(paths: list[Path], image_size: int) -> Raw:
    """Read every image below the folder in the order of its path; cut to the square and resize.

    Raises:
        UserError: the path is no folder or holds no images, or naming the images that differ from the rest.
    """
    root = paths[0]
    if not root.is_dir():
        raise UserError(f"data.source: {root} is not a folder of images.")
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError(f"data.source: {root} holds no images ({', '.join(sorted(SUFFIXES))}).")
    mode, side = _common(files)
    if side < image_size:
        raise UserError(f"data.image_size: {image_size} exceeds the {side} pixels of the images in {root}.")
    return Raw(
        count=len(files),
        channels=CHANNELS[mode],
        blocks=_blocks(files, side, image_size),
        transformations=(
            f"centre crop {side}x{side}",
            f"bilinear resize to {image_size}x{image_size}",
        ),
    )


def _common(files: list[Path]) -> tuple[str, int]:
    """The mode of all images, and their shorter side; reads headers only."""
    kinds = {file: _kind(file) for file in files}
    usual, _ = Counter(kinds.values()).most_common(1)[0]
    wrong = {file: kind for file, kind in kinds.items() if kind != usual or kind[0] not in CHANNELS}
    if wrong:
        odd = [f"{file.name} ({_text(kind)})" for file, kind in wrong.items()]
        more = f" and {len(odd) - 10} more" if len(odd) > 10 else ""
        raise UserError(
            f"{len(odd)} of {len(files)} images cannot be used: {', '.join(odd[:10])}{more}. "
            f"All must be of one size and either grey (L) or colour (RGB); most are {_text(usual)}."
        )
    return str(usual[0]), min(usual[1], usual[2])


def _text(kind: tuple[Any, ...]) -> str:
    return f"{kind[0]} {kind[1]}x{kind[2]}" if kind[1] else str(kind[0])


def _kind(file: Path) -> tuple[Any, ...]:
    from PIL import Image

    try:
        with Image.open(file) as image:
            return image.mode, image.width, image.height
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return "not an image", 0, 0


def _blocks(files: list[Path], side: int, image_size: int) -> Iterator[Block]:
    classes = sorted({file.parent for file in files})
    label = {folder: index for index, folder in enumerate(classes)}
    for start in range(0, len(files), BLOCK):
        part = files[start : start + BLOCK]
        images = [_square(file, side, image_size) for file in part]
        yield np.stack(images), np.array([label[file.parent] for file in part], np.int64)


def _square(path: Path, side: int, image_size: int) -> np.ndarray:
    with path.open("rb") as file:
        return square(decode(file, str(path)), side, image_size)
