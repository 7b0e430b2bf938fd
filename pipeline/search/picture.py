"""A trial's samples as one small picture, which travels with what the trial reports."""

import base64
import io

import numpy as np

PICTURE = "picture"
"""Beside a trial's metrics: a PNG in base64, no number."""
ROWS, COLUMNS, LEAST, WIDTH = 2, 8, 32, 1024
"""Images of the picture, and in pixels the least width of one and the most of all."""


def picture(images: np.ndarray) -> dict[str, str]:
    """The first samples row by row, as an item to report; each pixel a square of whole pixels.

    Args:
        images: uint8 (N, C, H, W), C 1 or 3, N at least 1.
    """
    from PIL import Image  # 50 ms, once in a worker

    _, channels, height, width = images.shape
    columns = min(COLUMNS, len(images), max(1, WIDTH // width))
    rows, factor = min(ROWS, len(images) // columns), max(1, LEAST // width)
    cells = images[: rows * columns].reshape(rows, columns, channels, height, width)
    pixels = cells.transpose(0, 3, 1, 4, 2).reshape(rows * height, columns * width, channels)
    large = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    file = io.BytesIO()
    Image.fromarray(large[:, :, 0] if channels == 1 else large).save(file, "PNG")
    return {PICTURE: base64.b64encode(file.getvalue()).decode()}
