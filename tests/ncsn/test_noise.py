"""Ladders: laws of the geometric sequence, and the published numbers of NCSNv2."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.ncsn import noise

CIFAR10 = {"sigma_max": 50.0, "sigma_min": 0.01, "dim": 3 * 32 * 32}


@settings(max_examples=50, deadline=None)
@given(st.floats(0.5, 500), st.floats(1e-3, 0.4), st.integers(2, 2500))
def test_a_ladder_descends_by_one_ratio_between_its_ends(
    sigma_max: float, sigma_min: float, levels: int
) -> None:
    sigmas = noise.geometric_sigmas(sigma_max, sigma_min, levels)
    assert sigmas.shape == (levels,) and sigmas.dtype == torch.float32
    torch.testing.assert_close(sigmas[[0, -1]], torch.tensor([sigma_max, sigma_min]), rtol=1e-6, atol=0)
    logs = sigmas.double().log().diff()
    torch.testing.assert_close(logs, logs.mean().expand(levels - 1), rtol=0, atol=3e-7)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((0.0, 0.01, 10), "sigma_max is 0.0"),
        ((math.inf, 0.01, 10), "sigma_max is inf"),
        ((1.0, -0.5, 10), "sigma_min is -0.5"),
        ((1.0, math.nan, 10), "sigma_min is nan"),
        ((1.0, 1.0, 10), "sigma_min is 1.0"),
        ((1.0, 0.01, 1), "num_levels is 1"),
        ((1.0, 0.9999999, 10), "num_levels is 10"),
    ],
)
def test_a_bad_ladder_is_refused_by_name(arguments: tuple[float, float, int], named: str) -> None:
    with pytest.raises(UserError, match=named):
        noise.geometric_sigmas(*arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_the_largest_distance_is_that_of_all_pairs(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise, "_CHUNK", 16)
    x = (torch.rand(75, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 255).to(dtype)
    expected = torch.pdist(x.flatten(1).double()).max().item()
    assert noise.max_pairwise_distance(x) == pytest.approx(expected, rel=1e-12)


def test_the_largest_distance_of_many_points_is_that_of_a_seeded_subset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(noise, "MAX_POINTS", 20)
    monkeypatch.setattr(noise, "SUBSET", 5)
    x = torch.arange(21.0)[:, None] ** 2
    found = [noise.max_pairwise_distance(x, seed=seed) for seed in range(20)]
    assert found == [noise.max_pairwise_distance(x, seed=seed) for seed in range(20)]
    assert len(set(found)) > 1 and max(found) <= 400
    assert noise.max_pairwise_distance(x[:20]) == 19**2


def test_one_point_has_no_distance() -> None:
    with pytest.raises(UserError, match="1 example"):
        noise.max_pairwise_distance(torch.zeros(1, 3))


def test_an_overlap_of_one_half_gives_219_levels_for_cifar10() -> None:
    assert noise.num_levels(**CIFAR10, overlap=0.5) == 219


@pytest.mark.parametrize(
    ("sigma_max", "image_size", "published"), [(50, 32, 232), (90, 64, 500), (140, 96, 788), (348, 256, 2311)]
)
def test_the_published_ladders_overlap_by_567_thousandths(
    sigma_max: float, image_size: int, published: int
) -> None:
    dim = 3 * image_size**2
    assert noise.overlap(sigma_max, 0.01, dim, published) == pytest.approx(0.567, abs=1e-3)
    assert noise.num_levels(sigma_max, 0.01, dim, 0.567) == pytest.approx(published, rel=2e-3)


def test_cifar10s_232_levels_correspond_to_567_thousandths() -> None:
    assert noise.num_levels(**CIFAR10, overlap=0.567) == 232


@settings(max_examples=30, deadline=None)
@given(st.integers(5, 100_000), st.integers(3, 400))
def test_number_and_overlap_of_levels_are_inverse(dim: int, levels: int) -> None:
    overlap = noise.overlap(1.0, 0.01, dim, levels)
    if 1e-6 < overlap < 0.997:
        assert noise.num_levels(1.0, 0.01, dim, overlap) == levels


@pytest.mark.parametrize("ratio", [1.02, 1.06, 1.15])
def test_overlap_is_the_chance_to_be_within_three_deviations_of_the_level_above(ratio: float) -> None:
    """NCSNv2, section 3.2: |N(0, sigma^2 I)| is nearly N(sqrt(D) sigma, sigma^2 / 2); here by sampling."""
    dim = 400
    radius = torch.randn(40_000, dim, generator=torch.Generator().manual_seed(0)).norm(dim=1)
    inside = (radius - math.sqrt(dim) * ratio).abs() < 3 * ratio * math.sqrt(0.5)
    assert noise.overlap(ratio, 1.0, dim, 2) == pytest.approx(inside.double().mean().item(), abs=0.02)


@pytest.mark.parametrize(
    ("dim", "overlap", "named"),
    [(4, 0.5, "dim is 4"), (64, 0.0, "overlap is 0.0"), (64, 0.998, "overlap is 0.998")],
)
def test_an_overlap_that_no_ladder_has_is_refused(dim: int, overlap: float, named: str) -> None:
    with pytest.raises(UserError, match=named):
        noise.num_levels(1.0, 0.01, dim, overlap)


@pytest.mark.parametrize(
    ("sigma_max", "levels", "steps", "published"),
    [(50, 232, 5, 6.18e-6), (140, 788, 4, 2.31e-6), (348, 2311, 3, 8.9e-7)],
)
def test_the_step_of_technique_4(sigma_max: float, levels: int, steps: int, published: float) -> None:
    found = noise.step_lr(noise.geometric_sigmas(sigma_max, 0.01, levels), steps)
    assert found == pytest.approx(published, rel=5e-3)


@settings(max_examples=30, deadline=None)
@given(st.floats(1.001, 5), st.integers(1, 200), st.floats(1e-6, 0.999))
def test_no_other_step_brings_the_variance_nearer(ratio: float, steps: int, other: float) -> None:
    sigmas = torch.tensor([ratio, 1.0], dtype=torch.float64)
    best = torch.tensor(noise.step_lr(sigmas, steps), dtype=torch.float64)
    excess = [
        noise.variance_ratio(u, ratio, steps) - 1 for u in (best, torch.tensor(other, dtype=torch.float64))
    ]
    assert 0 < excess[0] <= excess[1] * (1 + 1e-9)


def test_the_variance_ratio_is_that_of_the_recursion() -> None:
    """x <- (1 - u) x + sqrt(2 u) z from a variance of gamma^2, step by step."""
    u, ratio, variance = 0.06, 1.3, 1.3**2
    for steps in range(1, 8):
        variance = (1 - u) ** 2 * variance + 2 * u
        assert noise.variance_ratio(torch.tensor(u).double(), ratio, steps).item() == pytest.approx(variance)


@pytest.mark.parametrize(
    ("sigmas", "steps", "named"),
    [([1.0, 0.1], 0, "steps_per_level is 0"), ([1.0], 5, "1 level"), ([0.1, 1.0], 5, "sigma_min is 1.0")],
)
def test_a_bad_step_is_refused(sigmas: list[float], steps: int, named: str) -> None:
    with pytest.raises(UserError, match=named):
        noise.step_lr(torch.tensor(sigmas), steps)
