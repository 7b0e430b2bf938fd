"""Whether samples are copies of training images: their nearest ones, and how near these are."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.metrics.deterministic import exact

Points = NDArray[np.uint8] | NDArray[np.floating[Any]]
"""(n, ...): images or features, flattened here to (n, D)."""
_ROWS, _COLUMNS = 512, 1024  # of the distances held at once; the columns bound the memory at large D
_RESAMPLINGS = 1000


def nearest(points: Points, train: Points, *, k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The k nearest of `train` to each of `points`, by the Euclidean distance, the nearest first.

    Found among all by |a|^2 + |b|^2 - 2 a b, exact for bytes; the distances of those k are then those of
    the differences, so that a copy is at 0. Of equal ones the first in `train` comes first.

    Args:
        points: (n, ...).
        train: (m, ...), m at least k; a memory map is read a part at a time.

    Returns:
        distances (n, k) in the unit of the points, indices into `train` (n, k).
    """
    with exact(0):
        found = [_nearest(_flat(points[rows]), train, k) for rows in _slices(len(points), _ROWS)]
    return np.concatenate([d for d, _ in found]), np.concatenate([i for _, i in found])


def _nearest(x: Tensor, train: Points, k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    best, index = torch.zeros(len(x), 0, dtype=torch.float64), torch.zeros(len(x), 0, dtype=torch.int64)
    for columns in _slices(len(train), _COLUMNS):
        y = _flat(train[columns])
        squared = torch.cat([best, y.square().sum(1) - 2 * x @ y.T], dim=1)
        here = torch.arange(columns.start, columns.start + len(y)).expand(len(x), -1)
        best, order = (part[:, :k] for part in squared.sort(dim=1, stable=True))
        index = torch.cat([index, here], dim=1).gather(1, order)
    indices = index.numpy()
    apart = [(x - _flat(train[column])).square().sum(1).sqrt() for column in indices.T]
    return torch.stack(apart, dim=1).numpy(), indices


def _slices(length: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, length, step))


def _flat(points: Points) -> Tensor:
    return torch.from_numpy(np.asarray(points, dtype=np.float64).reshape(len(points), -1))


def distance_ratio(
    samples: NDArray[np.float64], held_out: NDArray[np.float64], *, seed: int
) -> dict[str, float | str | None]:
    """How near samples are to the training set, as a multiple of how near fresh data are.

    The median over the samples of the distance to the nearest training image, over the same median of
    the held-out images. At 1 samples are no nearer than fresh data; well below, they are copies. Above 1
    they are off the data, and the number says nothing of memory.

    Args:
        samples: (n,) distances of the samples to their nearest training images.
        held_out: (m,) those of images that were kept from training.
        seed: of the bootstrap.

    Returns:
        ratio; low, high: its 95 % interval by the percentiles of 1,000 bootstraps over both sets. All
        None, with `not_measured` saying why, where half the held-out images, or half of a resampling,
        are copies of training images: the ratio would be a division by 0.
    """
    rng = np.random.default_rng(seed)
    above, below = (_medians(distances, rng) for distances in (samples, held_out))
    if min(np.median(held_out), below.min()) == 0:
        why = "about half the held-out images stand in the training set too: fresh data are no nearer"
        return {"ratio": None, "low": None, "high": None, "not_measured": why}
    low, high = np.quantile(above / below, [0.025, 0.975])
    ratio = float(np.median(samples) / np.median(held_out))
    return {"ratio": ratio, "low": float(low), "high": float(high)}


def _medians(distances: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """(1000,): medians of resamplings, one at a time for the sake of memory."""
    n = len(distances)
    return np.array([np.median(distances[rng.integers(0, n, n)]) for _ in range(_RESAMPLINGS)])
