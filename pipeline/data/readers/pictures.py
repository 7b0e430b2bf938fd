"""Encoded images to arrays: decode, cut the centre square, resize."""

import warnings
from typing import IO, Any

import numpy as np

from pipeline.errors import UserError

CHANNELS = {"L": 1, "RGB": 3}


def decode(file: IO[bytes], name: str) -> Any:
    """Decode one image; returns a PIL image of mode L or RGB.

    Raises:
        UserError: naming the image, where it cannot be decoded or has another mode.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning):
            image = Image.open(file)
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Warning) as error:
        raise UserError(f"{name} cannot be decoded ({error}): replace it or take it out.") from error
    if image.mode not in CHANNELS:
        raise UserError(f"{name} is of mode {image.mode}: convert it to 8-bit grey (L) or colour (RGB).")
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
