"""Nearest neighbours in bounded memory: precision, recall, density, coverage, and copies of training images."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.memmap import release
from pipeline.metrics.deterministic import exact

Points = NDArray[np.uint8] | NDArray[np.floating[Any]]
"""(n, ...): images or features, flattened here to (n, D)."""
_NEAREST_ROWS, _NEAREST_COLUMNS = 512, 1024  # in `nearest`; the columns bound the memory at large D
_RESAMPLINGS = 1000
_ROWS = 512  # of the distance matrix held at once, at most
_HELD = 16_000_000  # distances held at once, at most: 0.13 GB
_COLUMNS = 4_096  # points of the other side held as float64: of 2,048 numbers each, 0.07 GB


def _rows(a: Points, b: Points) -> Iterator[tuple[slice, Tensor]]:
    rows = max(1, min(_ROWS, _HELD // len(b)))
    for start in range(0, len(a), rows):
        part = slice(start, start + rows)
        yield part, _distances(_double(a[part]), b)


def _distances(a: Tensor, b: Points) -> Tensor:
    """(n, m) float64: from each of a (n, D) to each of b (m, D)."""
    found = torch.empty(len(a), len(b), dtype=torch.float64)
    for start in range(0, len(b), _COLUMNS):
        part = slice(start, start + _COLUMNS)
        found[:, part] = torch.cdist(a, _double(b[part]))
    return found


def _double(points: Points) -> Tensor:
    copied = torch.from_numpy(np.array(points, dtype=np.float64))
    release(points)
    return copied


def radii(x: Points, nearest_k: int) -> Tensor:
    """(n,): the distance of each point of x (n, D) to its k-th nearest neighbour, itself not counted."""
    with exact(0):
        return torch.cat([d.kthvalue(nearest_k + 1, dim=1).values for _, d in _rows(x, x)])


def prdc(
    features: NDArray[np.floating],
    reference: NDArray[np.floating],
    *,
    nearest_k: int,
    reference_radii: Tensor | None = None,
) -> dict[str, float]:
    """Precision, recall (arXiv 1904.06991), density, coverage (arXiv 2002.09797).

    A manifold is the union of the balls around its points that reach to their k-th neighbours.
    Precision: the fraction of samples in the reference's manifold. Recall: the reverse. Density: the
    balls a sample lies in, over k. Coverage: the fraction of reference balls that hold a sample.

    Equal to the package `prdc`, which keeps three whole distance matrices (40 GB at 60,000 images).

    Args:
        features: (n, D) of the samples, n above `nearest_k`.
        reference: (m, D) of real images, m above `nearest_k`.
        reference_radii: (m,), `radii(reference, nearest_k)` where it is known: half of the work or more.
    """
    with exact(0):
        fake_radii = radii(features, nearest_k)
        real_radii = radii(reference, nearest_k) if reference_radii is None else reference_radii
        balls, recalled, covered = torch.zeros(len(features)), 0, 0
        for part, d in _rows(reference, features):
            inside = d < real_radii[part, None]
            balls += inside.sum(dim=0)
            covered += int(inside.any(dim=1).sum())
            recalled += int((d < fake_radii).any(dim=1).sum())
    return {
        "precision": float((balls > 0).double().mean()),
        "recall": recalled / len(reference),
        "density": float(balls.double().mean()) / nearest_k,
        "coverage": covered / len(reference),
    }


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
        found = [_nearest(_flat(points[rows]), train, k) for rows in _slices(len(points), _NEAREST_ROWS)]
    return np.concatenate([d for d, _ in found]), np.concatenate([i for _, i in found])


def _nearest(x: Tensor, train: Points, k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    best, index = torch.zeros(len(x), 0, dtype=torch.float64), torch.zeros(len(x), 0, dtype=torch.int64)
    for columns in _slices(len(train), _NEAREST_COLUMNS):
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
    """Memorisation ratio: how near samples are to the training set, over how near fresh data are.

    The median over the samples of the distance to the nearest training image, over the same median of
    the held-out images. At 1 samples are no nearer than fresh data; well below, they are copies. Above 1
    they are off the data, and the ratio is no evidence about copying.

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
