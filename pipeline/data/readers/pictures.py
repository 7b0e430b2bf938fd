"""Decoding of images to arrays: decode, crop, resize; all unusable images are reported at once."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from pipeline.ncsn.errors import UserError

CHANNELS = {"L": 1, "RGB": 3}
LAID = {"LA": "L", "RGBA": "RGB"}
"""The modes with an alpha channel, and what is left of each without it."""
DEEP = ("I;16", "I;16B")
"""The modes of grey in 16 bits."""
TO_RGB = ("L", "LA", "P", "PA", "1", *DEEP)
"""What becomes RGB without loss, once it has 8 bits."""
MODES = {
    "P": "a palette",
    "PA": "a palette",
    "RGBA": "an alpha channel",
    "LA": "an alpha channel",
    "1": "1 bit a pixel",
    "CMYK": "the four inks of print",
    "I;16": "16 bits a channel",
    "I;16B": "16 bits a channel",
    "F": "floating-point pixels",
}
MOST_NAMED = 3
"""Images named for each cause."""
Colour = Sequence[int]
"""Red, green and blue, 0 to 255."""


@dataclass(frozen=True)
class Conversion:
    """What is done to images that are not stored in 8 bits without an alpha channel; None: they are refused."""

    background: Colour | None = None
    """The colour that an alpha channel is laid on."""
    white: int | None = None
    """The value of a pixel of 16 bits of grey that becomes 255. 16 bits of colour are refused: Pillow cuts them."""
    to_rgb: bool = False
    """Whether palettes, grey and 1 bit become RGB, which loses nothing; else palettes, 1 bit and grey among colour
    are refused."""


AS_THEY_ARE = Conversion()


@contextmanager
def noted(bad: dict[str, str], name: str) -> Iterator[None]:
    """Write down why the image cannot be used, as `cause` or `cause: detail`, instead of raising it."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning):
            yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        bad[name] = f"has more than {Image.MAX_IMAGE_PIXELS} pixels"
    except UnidentifiedImageError:
        bad[name] = "is not an image"
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        bad[name] = str(error)


def refuse(bad: Mapping[str, str], count: int, where: object, fix: str = "") -> None:
    """Raise one UserError with a line for each cause among `count` images; none bad: do nothing."""
    if bad:
        causes: dict[str, list[str]] = {}
        for name, reason in bad.items():
            causes.setdefault(reason.partition(": ")[0], []).append(name)
        lines = [_line(cause, names, bad) for cause, names in causes.items()]
        raise UserError(
            f"{len(bad)} of {count} images in {where} cannot be used:\n{''.join(lines)}"
            f"Images must be 8-bit grey (L) or colour (RGB), all of one kind: convert or remove these.{fix}"
        )


def _line(cause: str, names: list[str], bad: Mapping[str, str]) -> str:
    """One cause: its image and the reason, or its number of images and the first of them."""
    if len(names) == 1:
        return f"  {names[0]} {bad[names[0]]}\n"
    details = (bad[name].partition(": ")[2] for name in names[:MOST_NAMED])
    shown = [f"{name} ({detail})" if detail else name for name, detail in zip(names, details, strict=False)]
    return f"  {len(names)} images, each {cause}: {', '.join(shown)}{', ...' * (len(names) > MOST_NAMED)}\n"


def header(file: IO[bytes], to: Conversion = AS_THEY_ARE) -> Any:
    """Open one image, its pixels not decoded yet: a PIL image whose `mode_of` is L or RGB.

    Raises:
        ValueError: with the reason, where it has another format; or what Pillow raises (see `noted`).
    """
    from PIL import Image

    image = Image.open(file)
    cut = any(";16" in str(tile) for tile in image.tile) and image.mode not in DEEP  # by Pillow, to 8 bits
    if mode_of(image, to) not in CHANNELS or cut or (image.mode in DEEP and to.white is None):
        what = MODES["I;16"] if cut else MODES.get(image.mode, "another format")
        raise ValueError(f"has {what} (mode {image.mode})")
    if see_through(image) and to.background is None:
        what = MODES.get(image.mode, "a transparent colour, which is an alpha channel too")
        raise ValueError(f"has {what} (mode {image.mode})")
    if (frames := getattr(image, "n_frames", 1)) > 1:
        raise ValueError(f"has more than one frame or page: {frames}")
    return image


def mode_of(image: Any, to: Conversion = AS_THEY_ARE) -> str:
    """The mode that an image is stored in: less its alpha channel, in 8 bits, and maybe as RGB."""
    mode: str = image.mode
    if to.to_rgb and mode in TO_RGB:
        return "RGB"
    return "L" if mode in DEEP else LAID.get(mode, mode)


def see_through(image: Any) -> bool:
    """Whether some pixels may let a background through: an alpha channel, or a colour that stands for one (tRNS)."""
    return image.mode in LAID or "transparency" in image.info


def decode(file: IO[bytes], to: Conversion = AS_THEY_ARE) -> Any:
    """`header`, with the pixels decoded and converted: mode L or RGB.

    Raises:
        ValueError: with the reason, also where a pixel of 16 bits is above `white`.
    """
    image = header(file, to)
    try:
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"cannot be decoded: {error}") from error
    mode = mode_of(image, to)
    if to.white is not None and image.mode in DEEP:
        image = _in_8_bits(image, to.white)
    elif to.background is not None and see_through(image):
        image = _laid(image, to.background)
    return image if image.mode == mode else image.convert(mode)


def _in_8_bits(image: Any, white: int) -> Any:
    """An image of 16 bits of grey in mode L."""
    from PIL import Image

    values = np.asarray(image)
    if (highest := int(values.max())) > white:
        raise ValueError(f"has a pixel above data.white ({white}): {highest}")
    return Image.fromarray(np.round(values * (255 / white)).astype(np.uint8))


def _laid(image: Any, background: Colour) -> Any:
    """An image on a colour, in mode RGB; a grey one on a grey, the colour's brightness, in mode L."""
    from PIL import Image

    ground = Image.new("RGBA", image.size, (*background, 255))
    laid = Image.alpha_composite(ground, image.convert("RGBA"))
    return laid.convert("L" if mode_of(image) == "L" else "RGB")


def square(image: Any, crop: int, size: int) -> np.ndarray:
    """Cut the central crop x crop pixels and resize them bilinearly; returns uint8 (C, size, size)."""
    from PIL import Image

    left, top = (image.width - crop) // 2, (image.height - crop) // 2
    image = image.crop((left, top, left + crop, top + crop))
    if size != crop:
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
