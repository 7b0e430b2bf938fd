"""Precision, recall, density and coverage: distances to nearest neighbours, in bounded memory."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.metrics.exact import exact

_ROWS = 512  # of the distance matrix held at once: 60,000 columns are 0.25 GB


def _rows(a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    for start in range(0, len(a), _ROWS):
        part = slice(start, start + _ROWS)
        yield part, torch.cdist(a[part], b)


def _radii(x: Tensor, nearest_k: int) -> Tensor:
    """(n,): the distance of each point of x (n, D) to its k-th nearest neighbour, itself not counted."""
    return torch.cat([d.kthvalue(nearest_k + 1, dim=1).values for _, d in _rows(x, x)])


def prdc(
    features: NDArray[np.floating], reference: NDArray[np.floating], *, nearest_k: int
) -> dict[str, float]:
    """Precision, recall (arXiv 1904.06991), density, coverage (arXiv 2002.09797).

    A manifold is the union of the balls around its points that reach to their k-th neighbours.
    Precision: the fraction of samples in the reference's manifold. Recall: the reverse. Density: the
    balls a sample lies in, over k. Coverage: the fraction of reference balls that hold a sample.

    Equal to the package `prdc`, which keeps three whole distance matrices (40 GB at 60,000 images).

    Args:
        features: (n, D) of the samples, n above `nearest_k`.
        reference: (m, D) of real images, m above `nearest_k`.
    """
    with exact(0):
        fake = torch.from_numpy(np.asarray(features, dtype=np.float64))
        real = torch.from_numpy(np.asarray(reference, dtype=np.float64))
        fake_radii, real_radii = _radii(fake, nearest_k), _radii(real, nearest_k)
        balls, recalled, covered = torch.zeros(len(fake)), 0, 0
        for part, d in _rows(real, fake):
            inside = d < real_radii[part, None]
            balls += inside.sum(dim=0)
            covered += int(inside.any(dim=1).sum())
            recalled += int((d < fake_radii).any(dim=1).sum())
    return {
        "precision": float((balls > 0).double().mean()),
        "recall": recalled / len(real),
        "density": float(balls.double().mean()) / nearest_k,
        "coverage": covered / len(real),
    }
