"""Small pictures of images for MLflow and for the report: mosaics in which every pixel is a square."""

import base64
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
ROWS, COLUMNS, CELL, WIDTH = 6, 10, 48, 1024
"""Of a picture of samples: the most images, the least side of one and the most of all, in pixels."""


def mosaic(images: Images, rows: int, columns: int, factor: int, gap: int) -> Images:
    """Images (n, C, H, W) on a white ground, row by row, each pixel a `factor` x `factor` square.

    Returns:
        uint8 (rows * (H * factor + gap) - gap, columns * (W * factor + gap) - gap, 3). Places for which
        there is no image stay white.
    """
    height, width = images.shape[2] * factor, images.shape[3] * factor
    ground = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for place, image in enumerate(images[: rows * columns]):
        top, left = (place // columns) * (height + gap), (place % columns) * (width + gap)
        square = image.repeat(factor, axis=1).repeat(factor, axis=2).transpose(1, 2, 0)
        ground[top : top + height, left : left + width] = square
    return ground


def png(pixels: Images) -> str:
    """A PNG in base64 of pixels (H, W) or (H, W, 3)."""
    from PIL import Image  # 50 ms, once in a process

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def first_samples(folder: Path) -> str:
    """A PNG in base64 of the first denoised samples in a folder that `generate` wrote, row by row, uncurated."""
    images = np.load(folder / "denoised.npy", mmap_mode="r")[: ROWS * COLUMNS]
    columns = max(1, min(COLUMNS, len(images), WIDTH // images.shape[3]))
    rows, factor = min(ROWS, -(-len(images) // columns)), max(1, CELL // images.shape[3])
    return png(mosaic(np.asarray(images), rows, columns, factor, gap=1 + factor // 2))
