"""Distances between two sets of points: lower bounds by matrix products in float32, exact ones of few pairs.

A product in float32 costs a third of one in float64, but rounds. So it gives what a squared distance is at
least, with proof, and pairs that this does not decide are computed from their differences in float64. Nearest
neighbours and pairs within a radius are then those of float64, whatever the kernel, the blocks and the threads.
"""

import contextlib
import functools
import hashlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.memmap import release

Points = NDArray[np.uint8] | NDArray[np.floating[Any]]
"""(n, ...): images or features, finite, flattened here to (n, D)."""
Index = NDArray[np.int64]
Values = NDArray[np.float64]

_TILE = 2_048  # points of a side whose distances are held at once, at most: 17 MB in float32
_NUMBERS = 2**22  # of these points, at most: 34 MB in float64
_APART = 2**18  # numbers of the points whose exact distances are taken at once
_MANY = 64  # one open pair in so many: exact distances of more cost more than a product in float64


class Pair:
    """Distances from each of some points (n, ...) to each of others (m, ...); both may be maps of files."""

    def __init__(self, a: Points, b: Points) -> None:
        """
        Args:
            a, b: the same object for the distances within a set, which cost half.
        """
        self.a, self.b = a, b
        self._centre = (_mean(a) + _mean(b)) / 2
        self._dim, self._scale = len(self._centre), 1.0
        squares = [self._squares(points) for points in ([a] if b is a else [a, b])]
        # A power of 2, which rounds nothing, so that no norm is above 1 and no square overflows in float32.
        self._scale = 2.0 ** -math.ceil(math.log2(max(float(s.max()) for s in squares) ** 0.5 or 1.0))
        self._squares_a, self._squares_b = (s * self._scale**2 for s in (squares[0], squares[-1]))

    def tiles(self) -> Iterator[tuple[slice, slice, Tensor]]:
        """Rows, columns and lower bounds of all distances; of those within a set no tile below the diagonal."""
        for rows in self._slices(len(self.a)):
            left = self._left(rows, torch.float32)
            for columns in self._slices(len(self.b)):
                if self.b is not self.a or columns.start >= rows.start:
                    yield rows, columns, self._product(left, columns)

    def lower(self, rows: slice | Index, columns: slice) -> Tensor:
        """Lower bounds (n, m) of the squared distances from some of a to some of b, by float64."""
        return self._product(self._left(rows, torch.float64), columns)

    def columns(self) -> Iterator[slice]:
        """All of b, a tile's width at a time."""
        return self._slices(len(self.b))

    def squared(self, distances: Values) -> Values:
        """Squares of distances in the unit of lower bounds."""
        found: Values = np.square(distances * self._scale)
        return found

    def exact(self, rows: Index, columns: Index) -> Values:
        """(p,): the distances of p pairs by their differences in float64; once for all pairs of equal points."""
        pairs = self.names[0][rows] * len(self.b) + self.names[1][columns]
        pairs, back = np.unique(pairs, return_inverse=True)
        step = max(1, _APART // self._dim)
        parts = [self._apart(*np.divmod(pairs[k : k + step], len(self.b))) for k in range(0, len(pairs), step)]
        return np.concatenate([np.empty(0), *parts])[back]

    def inside(self, rows: slice, columns: slice, lower: Tensor, radii: Values) -> tuple[Index, Index]:
        """The pairs of a tile whose distance is below a radius, by their places in the tile.

        Args:
            rows, columns, lower: the tile.
            radii: (n, 1) or (1, m).
        """
        bounds, limits = lower.numpy(), np.broadcast_to(self.squared(radii), lower.shape)
        i, j = np.divmod(np.flatnonzero(bounds <= _raised(self.squared(radii), bounds.dtype)), lower.shape[1])
        undecided = bounds[i, j] + self._slack(i + rows.start, j + columns.start, lower.dtype) >= limits[i, j]
        if lower.dtype is torch.float32 and undecided.sum() * _MANY > bounds.size:
            return self.inside(rows, columns, self.lower(rows, columns), radii)
        near = ~undecided
        i_open, j_open = i[undecided], j[undecided]
        apart = self.exact(i_open + rows.start, j_open + columns.start)
        near[undecided] = apart < np.broadcast_to(radii, lower.shape)[i_open, j_open]
        return i[near], j[near]

    @functools.cached_property
    def names(self) -> tuple[Index, Index]:
        """(n,) and (m,): for each point the first of its side that is equal to it."""
        own = _firsts(self.a)
        return own, own if self.b is self.a else _firsts(self.b)

    def _product(self, left: Tensor, columns: slice) -> Tensor:
        """|a|^2 + |b|^2 - 2 a b about the mean, less 2 c (|a|^2 + |b|^2), as one product of D + 2 terms.

        See `_rounding` for c.
        """
        right = self._terms(self.b, columns, self._squares_b, left.dtype)
        right[:, -2:] = right[:, -2:].flip(1)
        with _whole_float32():
            return left @ right.T

    def _left(self, rows: slice | Index, dtype: torch.dtype) -> Tensor:
        left = self._terms(self.a, rows, self._squares_a, dtype)
        left[:, :-2] *= -2
        return left

    def _terms(self, points: Points, part: slice | Index, squares: Tensor, dtype: torch.dtype) -> Tensor:
        c, underflow = _rounding(self._dim, dtype)
        x = self._centred(points, part)
        terms = torch.ones(len(x), self._dim + 2, dtype=dtype)
        terms[:, :-2], terms[:, -2] = x, (1 - 2 * c) * squares[part] - underflow
        return terms

    def _slack(self, rows: Index, columns: Index, dtype: torch.dtype) -> Values:
        """(p,): how far the squared distances of p pairs are above their lower bounds, at most."""
        c, underflow = _rounding(self._dim, dtype)
        found: Values = self._squares_a.numpy()[rows] + self._squares_b.numpy()[columns]
        return 4 * c * found + 4 * underflow

    def _apart(self, rows: Index, columns: Index) -> Values:
        # NumPy sums the last axis in an order that its length decides, torch by the number of rows and threads too.
        apart = _double(self.a, rows) - _double(self.b, columns)
        return np.asarray(np.sqrt(np.square(apart, out=apart).sum(axis=1)))

    def _slices(self, length: int) -> Iterator[slice]:
        step = max(1, min(_TILE, _NUMBERS // self._dim))
        return (slice(start, min(start + step, length)) for start in range(0, length, step))

    def _centred(self, points: Points, part: slice | Index) -> Tensor:
        x = _double(points, part)
        x -= self._centre
        x *= self._scale
        return torch.from_numpy(x)

    def _squares(self, points: Points) -> Tensor:
        return torch.cat([self._centred(points, part).square_().sum(dim=1) for part in self._slices(len(points))])


def _rounding(dim: int, dtype: torch.dtype) -> tuple[float, float]:
    """What rounding adds to a squared distance, and underflow next to it: c (|a|^2 + |b|^2) bounds the former twice.

    A computed product is off by at most gamma_k times its terms' magnitudes, here (|a| + |b|)^2, where
    gamma_k = k u / (1 - k u), u is half the spacing of numbers at 1, and k counts the roundings of a term:
    D + 1 sums in any order, fused or not, its product, and one each of a, b or their squares: at most D + 5
    (N. Higham, Accuracy and Stability of Numerical Algorithms, section 3.1). float64 adds gammas of D + 5 for
    the squares, for the centre, for what `exact` rounds and for the squares of radii. (|a| + |b|)^2 is at most
    2 (|a|^2 + |b|^2), so that 2 c (|a|^2 + |b|^2) with c above the sum of these gammas bounds it all.
    """
    count = dim + 16
    c = 1.1 * count * (torch.finfo(dtype).eps / 2 + 4 * torch.finfo(torch.float64).eps / 2)
    return c, 8 * count * torch.finfo(torch.float32).tiny  # factors, products and sums below `tiny` may be lost whole


def _raised(values: Values, dtype: Any) -> NDArray[Any]:
    """The values as a type that may be narrower, none of them rounded down."""
    return np.asarray(np.nextafter(values.astype(dtype), np.array(np.inf, dtype)))


def _double(points: Points, part: slice | Index) -> Values:
    copied = np.array(points[part], dtype=np.float64).reshape(-1, math.prod(points.shape[1:]))
    release(points)
    return copied


def _mean(points: Points) -> Values:
    step = max(1, _NUMBERS // math.prod(points.shape[1:]))
    sums = (_double(points, slice(k, k + step)).sum(axis=0) for k in range(0, len(points), step))
    return np.asarray(sum(sums) / len(points), dtype=np.float64)


def _firsts(points: Points) -> Index:
    """(n,): for each point the first that has its bytes."""
    seen: dict[bytes, int] = {}
    names = [seen.setdefault(hashlib.sha256(x.tobytes()).digest(), i) for i, x in enumerate(points)]
    release(points)
    return np.array(names, dtype=np.int64)


@contextlib.contextmanager
def _whole_float32() -> Iterator[None]:
    """Products in float32 as they are called: a caller may allow bfloat16 in their place, of 8 bits."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
