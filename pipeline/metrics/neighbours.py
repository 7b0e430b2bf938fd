"""Precision, recall, density and coverage: distances to nearest neighbours, in bounded memory."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.memmap import release
from pipeline.metrics.deterministic import exact

Points = NDArray[np.floating]
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
