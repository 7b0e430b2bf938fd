"""Nearest neighbours in bounded memory: precision, recall, density, coverage, and copies of training images."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.metrics.distances import Index, Pair, Points, Values

_RESAMPLINGS = 1000
_SPARE = 10  # lower bounds kept beyond the neighbours asked for, so that they seldom leave a neighbour out
_ROWS = 64  # points whose neighbours are looked for among all others at once


def radii(x: Points, nearest_k: int) -> Values:
    """(n,): the distance of each point of x (n, ...) to its k-th nearest neighbour, itself not counted."""
    return _nearest(Pair(x, x), nearest_k + 1)[0][:, -1]


def prdc(
    features: NDArray[np.floating],
    reference: NDArray[np.floating],
    *,
    nearest_k: int,
    reference_radii: Values | None = None,
) -> dict[str, float]:
    """Precision, recall (arXiv 1904.06991), density, coverage (arXiv 2002.09797).

    A manifold is the union of the balls around its points that reach to their k-th neighbours.
    Precision: the fraction of samples in the reference's manifold. Recall: the reverse. Density: the
    balls a sample lies in, over k. Coverage: the fraction of reference balls that hold a sample.

    Equal to the package `prdc`, which keeps three whole distance matrices (40 GB at 60,000 images).

    Args:
        features: (n, D) of the samples, n above `nearest_k`.
        reference: (m, D) of real images, m above `nearest_k`.
        reference_radii: (m,), `radii(reference, nearest_k)` where it is known: a third of the work or more.
    """
    fake_radii = radii(features, nearest_k)
    real_radii = radii(reference, nearest_k) if reference_radii is None else reference_radii
    balls = np.zeros(len(features), dtype=np.int64)
    covered, recalled = np.zeros((2, len(reference)), dtype=bool)
    pair = Pair(reference, features)
    for rows, columns, lower in pair.tiles():
        i, j = pair.inside(rows, columns, lower, real_radii[rows, None])
        covered[i + rows.start] = True
        balls[columns] += np.bincount(j, minlength=lower.shape[1])
        i, _ = pair.inside(rows, columns, lower, fake_radii[None, columns])
        recalled[i + rows.start] = True
    return {
        "precision": float((balls > 0).mean()),
        "recall": float(recalled.mean()),
        "density": float(balls.mean()) / nearest_k,
        "coverage": float(covered.mean()),
    }


def nearest(points: Points, train: Points, *, k: int) -> tuple[Values, Index]:
    """The k nearest of `train` to each of `points`, by the Euclidean distance, the nearest first.

    The distances are those of the differences in float64, so that a copy is at 0. Of equal ones the first in
    `train` comes first.

    Args:
        points: (n, ...).
        train: (m, ...), m at least k; a memory map is read a part at a time.

    Returns:
        distances (n, k) in the unit of the points, indices into `train` (n, k).
    """
    return _nearest(Pair(points, train), k)


def _nearest(pair: Pair, k: int) -> tuple[Values, Index]:
    """The nearest among those of the least lower bounds, where no other can be nearer; else among all."""
    bounds, index = _least(pair, min(k + _SPARE, len(pair.b)))
    rows = np.arange(len(index)).repeat(index.shape[1])
    distances, index = _first(pair.exact(rows, index.ravel()).reshape(index.shape), index, k)
    if bounds.shape[1] < len(pair.b):
        (unsure,) = np.nonzero(pair.squared(distances[:, -1]) >= bounds.max(axis=1))
        same, back = np.unique(pair.names[0][unsure], return_inverse=True)
        parts = [
            _among_all(pair, rows, distances[rows, -1], k) for rows in np.split(same, range(_ROWS, len(same), _ROWS))
        ]
        distances[unsure], index[unsure] = (np.concatenate(x)[back] for x in zip(*parts, strict=True))
    return distances, index


def _least(pair: Pair, k: int) -> tuple[NDArray[np.float32], Index]:
    """The k least lower bounds of each row, and their columns, in any order."""
    bounds, index = torch.full((len(pair.a), k), torch.inf), torch.zeros(len(pair.a), k, dtype=torch.int64)

    def offer(rows: slice, columns: slice, lower: Tensor) -> None:
        limits = bounds[rows].amax(dim=1)
        if limits.isinf().any():
            limits = torch.minimum(limits, _limits(lower, k))
        values, places = _below(lower.numpy(), limits.numpy())
        bounds[rows], order = torch.cat([bounds[rows], values], dim=1).topk(k, largest=False, sorted=False)
        index[rows] = torch.cat([index[rows], places + columns.start], dim=1).gather(1, order)

    for rows, columns, lower in pair.tiles():
        offer(rows, columns, lower)
        if pair.b is pair.a and rows != columns:
            offer(columns, rows, lower.T)
    return bounds.numpy(), index.numpy()


def _limits(lower: Tensor, k: int) -> Tensor:
    """(n,): what at least k numbers of a row (m,) are below; infinite where m is small."""
    width = lower.shape[1] // (4 * k)
    if width < 2:
        return torch.full((len(lower),), torch.inf)
    least = lower[:, : 4 * k * width].view(-1, 4 * k, width).amin(dim=2)
    return torch.nextafter(least.kthvalue(k, dim=1).values, torch.tensor(torch.inf))


def _below(lower: NDArray[np.float32], limits: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
    """The few numbers of each row (m,) below its limit, and their columns: (n, most in a row), filled up by inf."""
    # One pass in the order of memory, then all else on the few: a selection of whole rows takes ten times as long.
    turned = not lower.flags.c_contiguous
    below = (lower < limits[:, None]).T if turned else lower < limits[:, None]
    i, j = np.divmod(np.flatnonzero(below), below.shape[1])
    if turned:
        order = np.argsort(j, kind="stable")
        i, j = j[order], i[order]
    counts = np.bincount(i, minlength=len(lower))
    slots = np.arange(len(i)) - (counts.cumsum() - counts)[i]
    values = torch.full((len(lower), int(counts.max())), torch.inf)
    places = torch.zeros(values.shape, dtype=torch.int64)
    values.numpy()[i, slots], places.numpy()[i, slots] = lower[i, j], j
    return values, places


def _among_all(pair: Pair, rows: Index, limits: Values, k: int) -> tuple[Values, Index]:
    """The k nearest to each of few rows (n,), none of them farther than its limit (n,)."""
    best, index = np.full((len(rows), k), np.inf), np.full((len(rows), k), len(pair.b))
    for columns in pair.columns():
        i, j = np.nonzero(pair.lower(rows, columns).numpy() <= pair.squared(limits)[:, None])
        apart = np.full((len(rows), columns.stop - columns.start), np.inf)
        apart[i, j] = pair.exact(rows[i], j + columns.start)
        here = np.broadcast_to(np.arange(columns.start, columns.stop), apart.shape)
        best, index = _first(np.concatenate([best, apart], axis=1), np.concatenate([index, here], axis=1), k)
    return best, index


def _first(distances: Values, index: Index, k: int) -> tuple[Values, Index]:
    """The k first of each row by distance, then by index."""
    order = np.lexsort((index, distances))[:, :k]
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(index, order, axis=1)


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
