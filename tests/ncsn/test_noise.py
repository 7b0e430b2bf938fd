"""Ladders: laws of the geometric sequence, the published numbers of NCSNv2, and EDM's ladder."""

import inspect
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.ncsn import noise
from pipeline.ncsn.errors import UserError

CIFAR10 = {"sigma_max": 50.0, "sigma_min": 0.01, "dim": 3 * 32 * 32}


@settings(max_examples=50, deadline=None)
@given(st.floats(0.5, 500), st.floats(1e-3, 0.4), st.integers(2, 2500))
def test_a_ladder_descends_by_one_ratio_between_its_ends(sigma_max: float, sigma_min: float, levels: int) -> None:
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


@settings(max_examples=50, deadline=None)
@given(st.floats(0.5, 500), st.floats(1e-3, 0.4), st.integers(2, 300), st.floats(1, 20))
def test_karras_ladder_is_even_in_the_root_between_its_ends(
    sigma_max: float, sigma_min: float, levels: int, rho: float
) -> None:
    """Equation 5 of arXiv 2206.00364, whose sum of roots is written out here."""
    sigmas = noise.karras_sigmas(sigma_max, sigma_min, levels, rho)
    top, bottom = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    expected = [(top + i / (levels - 1) * (bottom - top)) ** rho for i in range(levels)]
    torch.testing.assert_close(sigmas, torch.tensor(expected), rtol=1e-6, atol=0)
    assert sigmas.dtype == torch.float32 and bool((sigmas.diff() < 0).all())


def test_karras_ladder_lies_between_an_even_and_a_geometric_one() -> None:
    """rho 1 and rho without bound; EDM's 7 by default."""
    even = noise.karras_sigmas(80.0, 0.002, 9, 1)
    torch.testing.assert_close(even, torch.linspace(80.0, 0.002, 9))
    geometric = noise.geometric_sigmas(80.0, 0.002, 9)
    torch.testing.assert_close(noise.karras_sigmas(80.0, 0.002, 9, 1e7), geometric)
    inner = noise.karras_sigmas(80.0, 0.002, 9)[1:-1]
    assert torch.equal(inner, noise.karras_sigmas(80.0, 0.002, 9, rho=7)[1:-1])
    assert bool((inner < even[1:-1]).all() and (inner > geometric[1:-1]).all())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((0.1, 1.0, 10, 7.0), "sigma_min is 1.0"),
        ((math.nan, 0.01, 10, 7.0), "sigma_max is nan"),
        ((1.0, 0.01, 1, 7.0), "num_levels is 1"),
        ((1.0, 0.01, 10, 0.5), "rho is 0.5"),
        ((1.0, 0.01, 10, math.inf), "rho is inf"),
        ((1.0, 0.9999999, 10, 7.0), "num_levels is 10"),
    ],
)
def test_a_bad_karras_ladder_is_refused_by_name(arguments: tuple[float, float, int, float], named: str) -> None:
    with pytest.raises(UserError, match=named):
        noise.karras_sigmas(*arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_the_largest_distance_is_that_of_all_pairs(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "_CHUNK", 16)
    x = (torch.rand(75, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 255).to(dtype)
    expected = torch.pdist(x.flatten(1).double()).max().item()
    assert noise.max_pairwise_distance(x) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("first", "second"), [(0, 1), (0, 74), (17, 40), (40, 17), (73, 74)])
def test_the_farthest_pair_is_found_within_a_block_and_between_any_two(
    first: int, second: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise, "_CHUNK", 16)
    x = torch.zeros(75, 2)
    x[first], x[second] = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    assert noise.max_pairwise_distance(x) == 5


def test_the_overlap_of_equal_levels_is_refused_since_no_number_of_levels_has_it() -> None:
    with pytest.raises(UserError, match="overlap"):
        noise.num_levels(1.0, 0.01, 3072, noise._overlap(1.0, 3072))


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


class Largest(TorchDispatchMode):
    """Notes the most bytes that one operation returns."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.bytes = max(self.bytes, out.untyped_storage().nbytes())
        return out


def test_the_memory_of_the_largest_distance_is_that_of_a_block_however_many_the_points() -> None:
    """All pairs up to 60,000 points; no tensor beyond the data exceeds 2,048 x 2,048 float32 distances."""
    assert (noise.MAX_POINTS, noise.SUBSET) == (60_000, 10_000)
    found = []
    for count in (4_096, 12_000):
        x = torch.randint(256, (count, 1, 2, 2), dtype=torch.uint8)
        with Largest() as largest:
            noise.max_pairwise_distance(x)
        found.append(largest.bytes)
    assert found == [2_048**2 * 4] * 2


def test_one_point_has_no_distance() -> None:
    with pytest.raises(UserError, match="1 example"):
        noise.max_pairwise_distance(torch.zeros(1, 3))


def test_an_overlap_of_one_half_gives_219_levels_for_cifar10() -> None:
    assert noise.num_levels(**CIFAR10, overlap=0.5) == 219


@pytest.mark.parametrize(
    ("sigma_max", "image_size", "published", "printed", "levels"),
    [
        (50, 32, 232, "0.567", 232),
        (90, 64, 500, "0.567", 500),
        (140, 96, 788, "0.566", 789),
        (190, 128, 1086, "0.566", 1087),
        (348, 256, 2311, "0.567", 2311),
    ],
)
def test_the_published_ladders_overlap_by_567_thousandths(
    sigma_max: float, image_size: int, published: int, printed: str, levels: int
) -> None:
    """Of NCSNv2's table of settings; church's and bedroom's are a level shorter than .567 gives."""
    dim = 3 * image_size**2
    assert f"{noise.overlap(sigma_max, 0.01, dim, published):.3f}" == printed
    assert noise.num_levels(sigma_max, 0.01, dim, 0.567) == levels


def test_the_names_and_orders_of_arguments_are_the_public_ones() -> None:
    names = {
        noise.geometric_sigmas: ["sigma_max", "sigma_min", "num_levels"],
        noise.num_levels: ["sigma_max", "sigma_min", "dim", "overlap"],
        noise.step_size: ["sigmas", "steps_per_level"],
        noise.karras_sigmas: ["sigma_max", "sigma_min", "num_levels", "rho"],
    }
    assert {call: list(inspect.signature(call).parameters) for call in names} == names
    assert noise.num_levels(50.0, 0.01, 3072, 0.567) == 232
    assert next(iter(inspect.signature(noise.max_pairwise_distance).parameters)) == "x"


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
    ("sigma_max", "levels", "steps", "printed"),
    [
        (50, 232, 5, "6.18e-06"),
        (90, 500, 5, "3.34e-06"),
        (140, 788, 4, "2.31e-06"),
        (190, 1086, 3, "1.77e-06"),
        (348, 2311, 3, "8.93e-07"),
    ],
)
def test_the_step_of_technique_4(sigma_max: float, levels: int, steps: int, printed: str) -> None:
    """Published: 6.2e-6, 3.3e-6, 4.9e-6 (church: not the minimum), 1.8e-6 and 0.9e-6."""
    found = noise.step_size(noise.geometric_sigmas(sigma_max, 0.01, levels), steps)
    assert f"{found:.2e}" == printed


@settings(max_examples=30, deadline=None)
@given(st.floats(1.001, 5), st.integers(1, 200), st.floats(1e-6, 0.999))
def test_no_other_step_brings_the_variance_nearer(ratio: float, steps: int, other: float) -> None:
    sigmas = torch.tensor([ratio, 1.0], dtype=torch.float64)
    best = torch.tensor(noise.step_size(sigmas, steps), dtype=torch.float64)
    excess = [noise.variance_ratio(u, ratio, steps) - 1 for u in (best, torch.tensor(other, dtype=torch.float64))]
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
        noise.step_size(torch.tensor(sigmas), steps)
