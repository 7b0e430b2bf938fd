"""A folder of images of one pixel format; the folders in it are classes."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.data.readers.pictures import (
    CHANNELS,
    DEEP,
    MODES,
    Colour,
    Conversion,
    decode,
    header,
    mode_of,
    noted,
    refuse,
    square,
)
from pipeline.data.source import Block, Raw, rows_in_block
from pipeline.ncsn.errors import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
DOT = "names that begin with a dot"
ALPHA_FIX = " Or lay what has an alpha channel on a colour: `data.background: [255, 255, 255]` is white."
DEEP_FIX = " Or say which value of 16 bits of grey is white: `data.white: 65535`."
RGB_FIX = " Or make palettes and grey RGB: `data.to_rgb: true`."
Kind = tuple[str, int, int]
"""Mode, width and height of an image."""
FileId = tuple[int, int]
"""Device and inode."""


@dataclass
class Found:
    """The images below a folder, and what is not read."""

    names: list[str] = field(default_factory=list)
    """Paths in the folder, sorted."""
    passed_over: Counter[str] = field(default_factory=Counter)
    """Number of names by suffix, and of those that begin with a dot."""

    def told(self) -> tuple[str, ...]:
        """What was passed over as one line; none if nothing was."""
        parts = [f"{count:,} {what}" for what, count in sorted(self.passed_over.items())]
        return (f"passed over: {', '.join(parts)}",) if parts else ()


def read_folder(
    paths: list[Path],
    image_size: int,
    *,
    any_size: bool = False,
    classes: bool = True,
    background: Colour | None = None,
    white: int | None = None,
    to_rgb: bool = False,
) -> Raw:
    """Read every image below the folder in the order of its path; cut each to its square and resize.

    Links are followed. Other suffixes and names that begin with a dot are passed over, and counted.

    Args:
        any_size: images may differ in size, each at least `image_size`.
        classes: the label of an image is the place of its outermost folder among all; else it is 0.
        background: images with an alpha channel are laid on this colour; None: they are refused.
        white: the value of a pixel of 16 bits that becomes 255; None: images of 16 bits are refused.
        to_rgb: palettes and grey become RGB; else palettes, and grey among colour, are refused.
    """
    root, to = paths[0], Conversion(background, white, to_rgb)
    found = find(root)
    usual = _common(root, found.names, image_size, any_size, to)
    shape = (CHANNELS[usual[0]], image_size, image_size)
    return Raw(
        count=len(found.names),
        channels=CHANNELS[usual[0]],
        blocks=_blocks(root, found.names, shape, classes, to),
        transformations=(
            *_done(usual, image_size, any_size, to),
            *(_loose(found.names) if classes else ()),
            *found.told(),
        ),
    )


def find(root: Path) -> Found:
    """The images below a folder, at least one; raises UserError."""
    if not root.is_dir():
        raise UserError(f"data.source: {root} is not a folder of images.")
    found = Found()
    _search(root, "", (), found)
    found.names.sort()
    if not found.names:
        told = "".join(f" {line}." for line in found.told()).replace("passed", "Passed")
        raise UserError(f"data.source: {root} holds no images ({', '.join(sorted(SUFFIXES))}).{told}")
    return found


def _search(root: Path, inside: str, above: tuple[FileId, ...], found: Found) -> None:
    """Add what lies in a folder of `root`, which `inside` names, and in its folders; they may be links.

    Raises:
        UserError: a link to a folder that it lies in.
    """
    folder = root / inside
    here = (folder.stat().st_dev, folder.stat().st_ino)
    if here in above:
        raise UserError(f"data.source: {folder} is a link to a folder that it lies in: remove it.")
    for path in folder.iterdir():
        name, suffix = path.name, path.suffix.lower()
        if name.startswith("."):
            found.passed_over[DOT] += 1
        elif suffix in SUFFIXES:
            found.names.append(inside + name)
        elif path.is_dir():
            _search(root, f"{inside}{name}/", (*above, here), found)
        else:
            found.passed_over[suffix or "without a suffix"] += 1


def _done(usual: Kind, size: int, any_size: bool, to: Conversion) -> Iterator[str]:
    """What happens to the pixels of each image."""
    width, height = usual[1:]
    side = min(width, height)
    if to.background is not None:
        yield f"alpha channels laid on the colour {list(to.background)}"
    if to.white is not None:
        yield f"16 bits of grey to 8, {to.white} to 255"
    if to.to_rgb:
        yield "palettes and grey to RGB"
    if any_size:
        yield "centre crop to its shorter side"
    elif width != height:
        yield f"centre crop of {width}x{height} to {side}x{side}"
    if any_size or side != size:
        yield f"bilinear resize to {size}x{size}"


def _loose(names: list[str]) -> Iterator[str]:
    """Tells of images next to the folders, which may lie there by mistake."""
    count = sum(not _class(name) for name in names)
    if 0 < count < len(names):
        yield f"images that lie in no folder, class 0: {count:,}"


def _common(root: Path, names: list[str], image_size: int, any_size: bool, to: Conversion) -> Kind:
    """The kind of most images, and with it the mode of all; reads headers alone, unless some image is refused."""
    bad: dict[str, str] = {}
    kinds: dict[str, Kind] = {}
    same: dict[Kind, Kind] = {}  # one tuple for all images of a kind: names are all that grows with N
    for name in names:
        with noted(bad, name), (root / name).open("rb") as file:
            image = header(file, to)
            kind = (mode_of(image, to), image.width, image.height)
            kinds[name] = same.setdefault(kind, kind)
    usual = Counter(kinds.values()).most_common(1)[0][0] if kinds else ("L", 0, 0)
    for name, kind in kinds.items():
        if kind[0] != usual[0] or (kind != usual and not any_size):
            bad[name] = f"is not {_text(usual)} as most are: {_text(kind)}"
        elif min(kind[1:]) < image_size:
            bad[name] = f"is smaller than data.image_size ({image_size}): {_text(kind)}"
    if bad:
        _decode_others(root, kinds, bad)
    _refuse(bad, len(names), root)
    return usual


def _refuse(bad: dict[str, str], count: int, root: Path) -> None:
    alpha = any(MODES["RGBA"] in reason for reason in bad.values())
    palette = any(MODES["P"] in reason or ": L " in reason for reason in bad.values())
    deep = any(f"(mode {mode})" in reason for reason in bad.values() for mode in DEEP)
    refuse(bad, count, root, ALPHA_FIX * alpha + DEEP_FIX * deep + RGB_FIX * palette)


def _decode_others(root: Path, kinds: dict[str, Kind], bad: dict[str, str]) -> None:
    """Look at the pixels of images whose header is right, so that one message names every image."""
    for name in sorted(kinds.keys() - bad.keys()):
        with noted(bad, name), (root / name).open("rb") as file:
            decode(file, Conversion((0, 0, 0), 65535, to_rgb=True))


def _text(kind: Kind) -> str:
    return f"{kind[0]} {kind[1]}x{kind[2]}"


def _blocks(
    root: Path, names: list[str], shape: tuple[int, int, int], classes: bool, to: Conversion
) -> Iterator[Block]:
    bad: dict[str, str] = {}
    found = sorted({_class(name) for name in names}) if classes else []
    label = {folder: index for index, folder in enumerate(found)}
    rows = rows_in_block(*shape)
    for start in range(0, len(names), rows):
        part = names[start : start + rows]
        images = np.zeros((len(part), *shape), np.uint8)
        for place, name in enumerate(part):
            with noted(bad, name), (root / name).open("rb") as file:
                image = decode(file, to)
                images[place] = square(image, min(image.size), shape[-1])
        yield images, np.array([label.get(_class(name), 0) for name in part], np.int64)
    _refuse(bad, len(names), root)


def _class(name: str) -> str:
    """The outermost folder of an image; none for one that lies in no folder."""
    return name.partition("/")[0] if "/" in name else ""
