"""A folder of images of one pixel format; the folders in it are classes."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.data.readers.pictures import CHANNELS, decode, header, noted, refuse, square
from pipeline.data.source import Block, Raw, rows_in_block
from pipeline.ncsn.errors import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
Kind = tuple[str, int, int]
"""Mode, width and height of an image."""


def read_folder(paths: list[Path], image_size: int, *, any_size: bool = False, classes: bool = True) -> Raw:
    """Read every image below the folder in the order of its path; cut each to its square and resize.

    Args:
        any_size: images may differ in size, each at least `image_size`.
        classes: the label of an image is the place of its outermost folder among all; else it is 0.
    """
    root = paths[0]
    if not root.is_dir():
        raise UserError(f"data.source: {root} is not a folder of images.")
    names = sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not names:
        raise UserError(f"data.source: {root} holds no images ({', '.join(sorted(SUFFIXES))}).")
    mode, side = _common(root, names, image_size, any_size)
    cut = "its shorter side" if any_size else f"{side}x{side}"
    return Raw(
        count=len(names),
        channels=CHANNELS[mode],
        blocks=_blocks(root, names, (CHANNELS[mode], image_size, image_size), classes),
        transformations=(f"centre crop to {cut}", f"bilinear resize to {image_size}x{image_size}"),
    )


def _common(root: Path, names: list[str], image_size: int, any_size: bool) -> tuple[str, int]:
    """The mode of all images and their shorter side; reads headers alone, unless some image is refused."""
    bad: dict[str, str] = {}
    kinds: dict[str, Kind] = {}
    same: dict[Kind, Kind] = {}  # one tuple for all images of a kind: names are all that grows with N
    for name in names:
        with noted(bad, name), (root / name).open("rb") as file:
            image = header(file)
            kind = (image.mode, image.width, image.height)
            kinds[name] = same.setdefault(kind, kind)
    usual = Counter(kinds.values()).most_common(1)[0][0] if kinds else ("L", 0, 0)
    for name, kind in kinds.items():
        if kind[0] != usual[0] or (kind != usual and not any_size):
            bad[name] = f"is {_text(kind)}, where most are {_text(usual)}"
        elif min(kind[1:]) < image_size:
            bad[name] = f"is {_text(kind)}, smaller than data.image_size: {image_size}"
    if bad:
        _decode_others(root, kinds, bad)
    refuse(bad, len(names), root)
    return usual[0], min(usual[1:])


def _decode_others(root: Path, kinds: dict[str, Kind], bad: dict[str, str]) -> None:
    """Look at the pixels of images whose header is right, so that one message names every image."""
    for name in kinds.keys() - bad.keys():
        with noted(bad, name), (root / name).open("rb") as file:
            decode(file)


def _text(kind: Kind) -> str:
    return f"{kind[0]} {kind[1]}x{kind[2]}"


def _blocks(root: Path, names: list[str], shape: tuple[int, int, int], classes: bool) -> Iterator[Block]:
    bad: dict[str, str] = {}
    found = sorted({_class(name) for name in names}) if classes else []
    label = {folder: index for index, folder in enumerate(found)}
    rows = rows_in_block(*shape)
    for start in range(0, len(names), rows):
        part = names[start : start + rows]
        images = np.zeros((len(part), *shape), np.uint8)
        for place, name in enumerate(part):
            with noted(bad, name), (root / name).open("rb") as file:
                image = decode(file)
                images[place] = square(image, min(image.size), shape[-1])
        yield images, np.array([label.get(_class(name), 0) for name in part], np.int64)
    refuse(bad, len(names), root)


def _class(name: str) -> str:
    """The outermost folder of an image; none for one that lies in no folder."""
    return name.partition("/")[0] if "/" in name else ""
