"""Interpolation: its ends are the samples, what is between has their law, and lies between them."""

import math

import pytest
import scipy.stats
import torch
from torch import Tensor

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.interpolation import InterpolatedNoise, interpolation
from pipeline.ncsn.kinds import kinds
from pipeline.ncsn.nfe import CountEvaluations
from pipeline.ncsn.noise import geometric_sigmas
from pipeline.ncsn.rng import SampleNoise
from pipeline.ncsn.sampler import Ladder, Sampler, sample
from pipeline.ncsn.samplers.langevin import Langevin
from pipeline.toy.mixture import GaussianMixture
from tests.ncsn.samplers.functions import consistent

SHAPE = (2, 3, 3)
LADDER = geometric_sigmas(1.0, 0.05, 6)
LANGEVIN = Langevin(step_size=5e-4, steps_per_level=10)


def score(x: Tensor, sigma: Tensor) -> Tensor:
    """Elementwise, by arithmetic alone, and not linear: towards 0 below a half, towards 1 above."""
    return (((x - 0.5) / (0.1 + sigma**2) + 0.5).clamp(0, 1) - x) / (0.04 + sigma**2)


def rows(pairs: list[tuple[int, int]], count: int, **changes: object) -> Tensor:
    noise = InterpolatedNoise(5, pairs, count, SHAPE)
    found = interpolation(LANGEVIN, score, LADDER, noise, denoise=True, **changes)
    return found.unflatten(0, (len(pairs), count))


def drawn(indices: list[int]) -> Tensor:
    return sample(LANGEVIN, score, LADDER, SampleNoise(5, indices, SHAPE), denoise=True)


def test_the_ends_of_a_row_are_the_samples_themselves() -> None:
    found = rows([(0, 3), (7, 2)], 5)
    assert torch.equal(found[:, 0], drawn([0, 7])) and torch.equal(found[:, -1], drawn([3, 2]))


def test_every_draw_is_the_circle_through_the_two() -> None:
    noise, first, second = (
        InterpolatedNoise(5, [(0, 3)], 4, SHAPE),
        *(SampleNoise(5, [k], SHAPE) for k in (0, 3)),
    )
    for _ in range(300):
        a, b = first.normal(), second.normal()
        angles = (math.cos(t * math.pi / 6) * a + math.sin(t * math.pi / 6) * b for t in range(4))
        torch.testing.assert_close(noise.normal(), torch.cat(list(angles)))
    assert len(noise) == 4


def test_draws_keep_their_laws() -> None:
    """Normal and uniform, with the variance 1 that straight lines would not keep: theirs is 1/2 half way."""
    noise = InterpolatedNoise(0, [(2 * k, 2 * k + 1) for k in range(40)], 3, (1_000,))
    uniform, normal = (draw.unflatten(0, (40, 3)) for draw in (noise.uniform(), noise.normal()))
    for place in range(3):
        assert scipy.stats.kstest(normal[:, place].flatten().numpy(), "norm").pvalue > 1e-3
        assert scipy.stats.kstest(uniform[:, place].flatten().numpy(), "uniform").pvalue > 1e-3
    assert normal.dtype == uniform.dtype == torch.float32


def test_samples_between_have_the_law_of_the_model() -> None:
    """Half way between pairs of samples of a mixture: as many in each mode as there should be."""
    means = torch.tensor([[-0.4], [0.6]])
    mixture = GaussianMixture((0.4, 0.6), means, 0.1)
    noise = InterpolatedNoise(0, [(2 * k, 2 * k + 1) for k in range(20)], 3, (250, 1))
    x = interpolation(
        Langevin(step_size=4e-4, steps_per_level=60),
        lambda x, sigma: mixture.score(x.view(-1, 1), sigma).view_as(x),
        geometric_sigmas(1.0, 0.1, 6),
        noise,
        denoise=False,
    ).unflatten(0, (20, 3))
    middle, std = x[:, 1].flatten().double().numpy(), 0.02**0.5

    def law(t):
        return 0.4 * scipy.stats.norm.cdf(t, -0.4, std) + 0.6 * scipy.stats.norm.cdf(t, 0.6, std)

    assert scipy.stats.kstest(middle, law).pvalue > 1e-3
    assert scipy.stats.kstest(x.mean(1).flatten().double().numpy(), law).pvalue < 1e-3


KIND_OPTIONS: dict[str, dict[str, object]] = {
    "langevin": {"step_size": 5e-4, "steps_per_level": 3},
    "consistent": {"step_size": 0.7 * 0.05**2},
    "predictor_corrector": {"predictor": "ancestral", "corrector_steps": 1, "snr": 0.2},
    "stochastic_heun": {"churn": 2.0},
}


@pytest.mark.parametrize("kind", kinds("samplers"))
def test_with_any_sampler_the_ends_are_its_samples_and_the_middle_is_another(kind: str) -> None:
    sampler = Sampler(kind, Ladder(1.0, 0.05, 6), KIND_OPTIONS.get(kind, {}))
    pairs = InterpolatedNoise(5, [(0, 3), (7, 2)], 3, SHAPE)
    found = sampler.sample(score, pairs, denoise=True).unflatten(0, (2, 3))
    for end, indices in ((0, [0, 7]), (2, [3, 2])):
        rng = SampleNoise(5, indices, SHAPE)
        assert torch.equal(found[:, end], sampler.sample(score, rng, denoise=True))
        assert (found[:, 1] - found[:, end]).abs().amax(dim=(1, 2, 3)).min() > 0.01


def test_it_is_noise_like_that_of_samples() -> None:
    pairs, rng = InterpolatedNoise(5, [(0, 3)], 3, list(SHAPE)), SampleNoise(5, range(3), list(SHAPE))
    assert (pairs.shape, pairs.device, len(pairs)) == (rng.shape, rng.device, len(rng))


def test_a_linear_sampler_interpolates_along_the_circle() -> None:
    settings = {"step_size": 0.7 * 0.05**2, "denoise": True}

    def linear(x: Tensor, sigma: Tensor) -> Tensor:
        return -x / (0.3**2 + sigma**2)

    found = consistent(linear, LADDER, InterpolatedNoise(5, [(0, 3)], 3, SHAPE), **settings)
    a, b = consistent(linear, LADDER, SampleNoise(5, [0, 3], SHAPE), **settings)
    torch.testing.assert_close(found, torch.stack([a, (a + b) / 2**0.5, b]), rtol=1e-4, atol=1e-6)


def test_a_row_does_not_depend_on_the_others() -> None:
    together = rows([(0, 3), (7, 2), (4, 5)], 5)
    assert torch.equal(together[1:2], rows([(7, 2)], 5))
    assert torch.equal(together[[2, 0]], rows([(4, 5), (0, 3)], 5))
    assert torch.equal(together[:, ::2], rows([(0, 3), (7, 2), (4, 5)], 3))


def test_neighbours_are_near_and_the_path_is_continuous() -> None:
    steps = rows([(0, 3)], 65)[0].diff(dim=0).flatten(1).norm(dim=1)
    whole = (drawn([0]) - drawn([3])).norm()
    assert steps.median() < 0.1 * whole


def test_a_start_of_ones_own_is_shared_by_its_row() -> None:
    """The paper's form: the noise alone makes the difference."""
    starts = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    found = rows([(0, 3), (7, 2)], 4, start=starts)
    rng = SampleNoise(5, [3, 2], SHAPE)
    assert torch.equal(found[:, -1], sample(LANGEVIN, score, LADDER, rng, denoise=True, start=starts))


def test_the_cost_is_that_of_annealed_langevin() -> None:
    counted = CountEvaluations(score)
    pairs = InterpolatedNoise(5, [(0, 1)], 3, SHAPE)
    interpolation(LANGEVIN, counted, LADDER, pairs, denoise=True)
    assert counted.nfe == 6 * 10 + 1


@pytest.mark.parametrize("starts", [1, 3, 8])
def test_a_wrong_number_of_starts_is_refused(starts: int) -> None:
    with pytest.raises(UserError, match=f"start holds {starts} starts for 2 pairs"):
        rows([(0, 3), (7, 2)], 4, start=torch.zeros(starts, *SHAPE))


@pytest.mark.parametrize(("pairs", "count", "named"), [([(0, 1), (4, 4)], 3, r"\(4, 4\)"), ([(0, 1)], 1, "count is 1")])
def test_bad_rows_are_refused_by_name(pairs: list[tuple[int, int]], count: int, named: str) -> None:
    with pytest.raises(UserError, match=named):
        InterpolatedNoise(0, pairs, count, SHAPE)
