"""Decoding of images to arrays: decode, crop, resize; all unusable images are reported at once."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

from pipeline.ncsn.errors import UserError

CHANNELS = {"L": 1, "RGB": 3}
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
MOST_NAMED = 100
"""Images named in one message, at most."""


@contextmanager
def noted(bad: dict[str, str], name: str) -> Iterator[None]:
    """Write down why the image cannot be used, instead of raising it."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning):
            yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        bad[name] = f"has more than {Image.MAX_IMAGE_PIXELS} pixels"
    except UnidentifiedImageError:
        bad[name] = "is not an image"
    except (OSError, SyntaxError, ValueError) as error:
        bad[name] = str(error)


def refuse(bad: Mapping[str, str], count: int, where: object) -> None:
    """Raise one UserError that names the bad ones among `count` images; none bad: do nothing."""
    if bad:
        lines = [f"  {name} {reason}\n" for name, reason in list(bad.items())[:MOST_NAMED]]
        more = f"  and {len(bad) - MOST_NAMED} more\n" if len(bad) > MOST_NAMED else ""
        raise UserError(
            f"{len(bad)} of {count} images in {where} cannot be used:\n{''.join(lines)}{more}"
            "Images must be 8-bit grey (L) or colour (RGB), all of one kind: convert or remove these."
        )


def header(file: IO[bytes]) -> Any:
    """Open one image, its pixels not decoded yet: a PIL image of mode L or RGB with 8 bits a channel.

    Raises:
        ValueError: with the reason, where it has another format; or what Pillow raises (see `noted`).
    """
    from PIL import Image

    image = Image.open(file)
    deep = any(";16" in str(tile) for tile in image.tile)  # Pillow would cut these to 8 bits without a word
    if image.mode not in CHANNELS or deep:
        what = MODES["I;16"] if deep else MODES.get(image.mode, "another format")
        raise ValueError(f"has {what} (mode {image.mode})")
    return image


def decode(file: IO[bytes]) -> Any:
    """`header`, with the pixels decoded."""
    image = header(file)
    try:
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"cannot be decoded ({error})") from error
    return image


def square(image: Any, crop: int, size: int) -> np.ndarray:
    """Cut the central crop x crop pixels and resize them bilinearly; returns uint8 (C, size, size)."""
    from PIL import Image

    left, top = (image.width - crop) // 2, (image.height - crop) // 2
    image = image.crop((left, top, left + crop, top + crop))
    if size != crop:
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
