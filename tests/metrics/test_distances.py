"""Blocked distances against float64's, where float32 alone would go wrong: offsets, near ties, copies, scales."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.metrics import distances
from pipeline.metrics.distances import Index, Pair, Values
from pipeline.metrics.neighbours import nearest, prdc, radii

Array = NDArray[np.floating]
K = 3


def apart(a: Array, b: Array) -> Values:
    """All distances by their differences in float64."""
    rows = [np.sqrt(np.square(row.astype(np.float64) - b.astype(np.float64)).sum(axis=1)) for row in a]
    return np.stack(rows)


def plain_prdc(fake: Array, real: Array) -> dict[str, float]:
    """The definition, on whole matrices in float64."""
    near_real, near_fake = (np.sort(apart(x, x), axis=1)[:, K] for x in (real, fake))
    d = apart(real, fake)
    inside = d < near_real[:, None]
    return {
        "precision": float(inside.any(axis=0).mean()),
        "recall": float((d < near_fake).any(axis=1).mean()),
        "density": float(inside.sum(axis=0).mean()) / K,
        "coverage": float(inside.any(axis=1).mean()),
    }


def gaussian(rng: np.random.Generator, dim: int) -> tuple[Array, Array]:
    return rng.standard_normal((150, dim)), 0.9 * rng.standard_normal((130, dim)) + 0.1


def offset(rng: np.random.Generator, dim: int) -> tuple[Array, Array]:
    """A mean of 3,000 deviations, which leaves a float32 product no digits."""
    return tuple(x + 3000 for x in gaussian(rng, dim))  # type: ignore[return-value]


def apart_far(rng: np.random.Generator, dim: int) -> tuple[Array, Array]:
    """Two groups on both sides, so that no centre helps: float32 decides nothing within a group."""
    return tuple(x + 1e5 * (np.arange(len(x)) % 2)[:, None] for x in gaussian(rng, dim))  # type: ignore[return-value]


def outlier(rng: np.random.Generator, dim: int) -> tuple[Array, Array]:
    a, b = gaussian(rng, dim)
    a[7] *= 1e6
    return a, b


def turned(rng: np.random.Generator, dim: int) -> tuple[Array, Array]:
    """A set against itself: each distance between the sides is one within them, and many equal a radius."""
    a = rng.standard_normal((140, dim))
    return a, a[::-1].copy()


def near_ties(rng: np.random.Generator, dim: int) -> tuple[Array, Array]:
    """Points on a sphere but for the last bit of float32, and their centre."""
    a = rng.standard_normal((140, dim))
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    b = np.nextafter(a.astype(np.float32), np.float32(9)) * np.float32(1 + 2**-22)
    return np.concatenate([a, np.zeros((1, dim))]), np.concatenate([b[:100], np.zeros((2, dim))])


def grid(rng: np.random.Generator, dim: int) -> tuple[Array, Array]:
    """Few values, so that most distances are equal to others."""
    return tuple(rng.integers(0, 2, (n, dim)) * (np.arange(dim) < 6) for n in (150, 120))  # type: ignore[return-value]


def copies(rng: np.random.Generator, dim: int) -> tuple[Array, Array]:
    """Sides of few different points, with more copies of each than are kept."""
    points = rng.standard_normal((5, dim)) + 10
    return points[rng.integers(0, 5, 120)], points[rng.integers(0, 4, 110)]


def collapsed(rng: np.random.Generator, dim: int) -> tuple[Array, Array]:
    return rng.standard_normal((120, dim)), np.full((100, dim), 0.25)


def tiny(rng: np.random.Generator, dim: int) -> tuple[Array, Array]:
    """Squares below the range of float32."""
    return tuple(1e-30 * x for x in gaussian(rng, dim))  # type: ignore[return-value]


def huge(rng: np.random.Generator, dim: int) -> tuple[Array, Array]:
    """Squares above it."""
    return tuple(1e30 * x for x in gaussian(rng, dim))  # type: ignore[return-value]


def both_scales(rng: np.random.Generator, dim: int) -> tuple[Array, Array]:
    """Neighbours whose products underflow next to points of norm 1."""
    a, b = gaussian(rng, dim)
    a[:60] *= 1e-25
    b[:60] *= 1e-25
    return np.concatenate([a, -a]), np.concatenate([b, -b])


CASES = [
    gaussian, offset, apart_far, outlier, turned, near_ties, grid, copies, collapsed, tiny, huge, both_scales,
]  # fmt: skip


@pytest.fixture(params=[64, 2048], ids=["64 features", "2048 features"])
def dim(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(params=CASES, ids=lambda case: case.__name__)
def sides(request: pytest.FixtureRequest, dim: int) -> tuple[Array, Array]:
    """Both sides as features are kept, in float32."""
    made: Callable[..., tuple[Array, Array]] = request.param
    a, b = made(np.random.default_rng(dim), dim)
    return a.astype(np.float32), b.astype(np.float32)


@pytest.mark.parametrize("tile", [48, 2048])
def test_neighbours_and_counts_are_float64s(
    sides: tuple[Array, Array], tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distances, "_TILE", tile)
    fake, real = sides
    d = apart(fake, real)
    order = np.argsort(d, axis=1, kind="stable")[:, :K]
    found, index = nearest(fake, real, k=K)
    np.testing.assert_array_equal(index, order)
    np.testing.assert_array_equal(found, np.take_along_axis(d, order, axis=1))
    np.testing.assert_array_equal(radii(fake, K), np.sort(apart(fake, fake), axis=1)[:, K])
    assert prdc(fake, real, nearest_k=K) == plain_prdc(fake, real)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_lower_bounds_and_their_slack_hold_for_every_pair(sides: tuple[Array, Array], dtype: torch.dtype) -> None:
    pair, squares = Pair(*sides), apart(*sides)
    every = np.divmod(np.arange(squares.size), squares.shape[1])
    whole = [slice(0, n) for n in squares.shape]
    lower = pair._product(pair._left(whole[0], dtype), whole[1]).double().numpy()
    true = pair.squared(squares)
    assert (lower <= true).all()
    assert (true <= lower + pair._slack(*every, dtype).reshape(true.shape)).all()


def test_threads_and_a_callers_precision_change_nothing() -> None:
    fake, real = (x.astype(np.float32) for x in near_ties(np.random.default_rng(0), 2048))
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    found = []
    try:
        for count, allowed in ((1, "highest"), (2, "highest"), (3, "medium")):
            torch.set_num_threads(count)
            torch.set_float32_matmul_precision(allowed)
            found.append((prdc(fake, real, nearest_k=K), *(x.tolist() for x in nearest(fake, real, k=K))))
            assert torch.get_float32_matmul_precision() == allowed
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
    assert found[0] == found[1] == found[2]


def test_few_pairs_need_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Gaussians, what the product leaves open is a few pairs a point: else nothing is gained."""
    counted, whole = [], Pair._apart

    def count(self: Pair, rows: Index, columns: Index) -> Values:
        counted.append(len(rows))
        return whole(self, rows, columns)

    monkeypatch.setattr(Pair, "_apart", count)
    fake, real = np.random.default_rng(0).standard_normal((2, 1500, 64)).astype(np.float32)
    prdc(fake, real, nearest_k=5)
    assert sum(counted) < 2 * 1500 * 16 + 1500


def test_a_bound_that_is_too_tight_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: a bound of 0, as if products were exact."""
    monkeypatch.setattr(distances, "_rounding", lambda dim, dtype: (0.0, 0.0))
    fake, real = (x.astype(np.float32) for x in turned(np.random.default_rng(64), 64))
    assert prdc(fake, real, nearest_k=K) != plain_prdc(fake, real)
