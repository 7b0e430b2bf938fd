"""The 8x8 digits that scikit-learn ships: a row of 64 values 0..16 and the class."""

from pathlib import Path

import numpy as np

from pipeline.data.source import Raw, open_content
from pipeline.ncsn.errors import UserError

LEVELS = 16


def read_digits(paths: list[Path], image_size: int) -> Raw:
    """Read the CSV file; values 0..16 become 0..255, rounded to the nearest."""
    try:
        with open_content(paths[0]) as file:
            table = np.array([line.split(b",") for line in file]).astype(np.int64)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{paths[0]} is no table of whole numbers ({error}).") from error
    pixels = table[..., :-1]
    if table.shape[1:] != (image_size**2 + 1,) or pixels.min() < 0 or pixels.max() > LEVELS:
        raise UserError(f"{paths[0]} does not hold {image_size}x{image_size} images of values 0 to {LEVELS}.")
    images = (pixels * 255 + LEVELS // 2) // LEVELS
    shape = (len(table), 1, image_size, image_size)
    block = (images.astype(np.uint8).reshape(shape), table[:, -1])
    return Raw(len(table), 1, [block], transformations=("values 0..16 times 255/16, rounded",))
