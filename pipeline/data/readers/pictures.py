"""Decoding of images to arrays: decode, crop, resize; all unusable images are reported at once."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

from pipeline.ncsn.errors import UserError

CHANNELS = {"L": 1, "RGB": 3}
LAID = {"LA": "L", "RGBA": "RGB"}
"""The modes with an alpha channel, and what is left of each without it."""
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


def header(file: IO[bytes], alpha: bool = False) -> Any:
    """Open one image, its pixels not decoded yet: a PIL image of mode L or RGB with 8 bits a channel.

    Args:
        alpha: an alpha channel or a transparent colour is no fault; `mode_of` tells the mode without it.

    Raises:
        ValueError: with the reason, where it has another format; or what Pillow raises (see `noted`).
    """
    from PIL import Image

    image = Image.open(file)
    deep = any(";16" in str(tile) for tile in image.tile)  # Pillow would cut these to 8 bits without a word
    if mode_of(image) not in CHANNELS or deep:
        what = MODES["I;16"] if deep else MODES.get(image.mode, "another format")
        raise ValueError(f"has {what} (mode {image.mode})")
    if see_through(image) and not alpha:
        what = MODES.get(image.mode, "a transparent colour, which is an alpha channel too")
        raise ValueError(f"has {what} (mode {image.mode})")
    if (frames := getattr(image, "n_frames", 1)) > 1:
        raise ValueError(f"has more than one frame or page: {frames}")
    return image


def mode_of(image: Any) -> str:
    """The mode of an image, less its alpha channel."""
    mode: str = image.mode
    return LAID.get(mode, mode)


def see_through(image: Any) -> bool:
    """Whether some pixels may let a background through: an alpha channel, or a colour that stands for one (tRNS)."""
    return image.mode in LAID or "transparency" in image.info


def decode(file: IO[bytes], background: Colour | None = None) -> Any:
    """`header`, with the pixels decoded, and laid on the background if there is one."""
    image = header(file, alpha=background is not None)
    try:
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"cannot be decoded: {error}") from error
    return image if background is None or not see_through(image) else _laid(image, background)


def _laid(image: Any, background: Colour) -> Any:
    """An image of mode L or RGB on a colour; a grey one on a grey, the colour's brightness."""
    from PIL import Image

    ground = Image.new("RGBA", image.size, (*background, 255))
    return Image.alpha_composite(ground, image.convert("RGBA")).convert(mode_of(image))


def square(image: Any, crop: int, size: int) -> np.ndarray:
    """Cut the central crop x crop pixels and resize them bilinearly; returns uint8 (C, size, size)."""
    from PIL import Image

    left, top = (image.width - crop) // 2, (image.height - crop) // 2
    image = image.crop((left, top, left + crop, top + crop))
    if size != crop:
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
