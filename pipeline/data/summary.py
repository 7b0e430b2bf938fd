"""Pixel statistics of a data set, read a block at a time."""

from dataclasses import dataclass

import numpy as np

from pipeline.data.source import rows_in_block


@dataclass(frozen=True)
class Pixels:
    """The values of one channel, in [0, 1]."""

    mean: float
    sd: float
    """Standard deviation over all pixels of all images."""
    lowest: float
    highest: float
    at_zero: float
    """The share of pixels that are exactly 0."""
    at_one: float
    """And exactly 1."""


def histogram(images: np.ndarray) -> np.ndarray:
    """Histogram of the values of each channel: (N, C, H, W) uint8 -> (C, 256) int64."""
    counts = np.zeros((images.shape[1], 256), np.int64)
    rows = rows_in_block(*images.shape[1:])
    for start in range(0, len(images), rows):
        for channel, values in enumerate(images[start : start + rows].swapaxes(0, 1)):
            counts[channel] += np.bincount(values.ravel(), minlength=256)
    return counts


def pixels(counts: np.ndarray) -> Pixels:
    """The statistics of a channel from its histogram, (256,)."""
    share = counts / counts.sum()
    values = np.arange(256) / 255
    mean = float(share @ values)
    present = values[counts > 0]
    return Pixels(
        mean=mean,
        sd=float(share @ (values - mean) ** 2) ** 0.5,
        lowest=float(present[0]),
        highest=float(present[-1]),
        at_zero=float(share[0]),
        at_one=float(share[-1]),
    )
