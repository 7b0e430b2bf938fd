"""Langevin dynamics against the exact laws of Gaussians and mixtures, and a second implementation."""

import math

import pytest
import scipy.stats
import torch
from torch import Tensor

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.nfe import CountEvaluations
from pipeline.ncsn.noise import geometric_sigmas
from pipeline.ncsn.rng import SampleNoise
from pipeline.ncsn.sampler import denoised
from pipeline.ncsn.samplers.langevin import Convention, langevin
from pipeline.toy.mixture import GaussianMixture
from tests.ncsn.samplers.functions import annealed_langevin, annealed_langevin_levels

IMAGE = (1, 2, 2)


def point_mass(x: Tensor, sigma: Tensor) -> Tensor:
    """The exact noisy score of data that is 0: N(0, sigma^2 I)."""
    return -x / sigma**2


def mixture() -> GaussianMixture:
    means = torch.tensor([0.2, 0.8]).view(2, 1, 1, 1).expand(2, *IMAGE)
    return GaussianMixture((0.3, 0.7), means, 0.05)


def draw(indices: list[int] | range, **changes: object) -> Tensor:
    settings = {"step_size": 2e-5, "steps_per_level": 20, "denoise": True} | changes
    rng = SampleNoise(3, indices, IMAGE)
    return annealed_langevin(mixture().score, geometric_sigmas(1.0, 0.01, 6), rng, **settings)


def normal_tail(samples: Tensor, std: float) -> float:
    """Kolmogorov-Smirnov p-value of N(0, std^2)."""
    return scipy.stats.kstest(samples.flatten().numpy() / std, "norm").pvalue


@pytest.mark.parametrize(("convention", "factor"), [("paper", 0.5), ("released", 1.0)])
def test_plain_langevin_reaches_the_stationary_law_of_its_convention(convention: Convention, factor: float) -> None:
    """x <- (1 - u) x + sqrt(2 u) z on N(0, 1): variance 1 / (1 - u / 2), u = alpha / 2 or alpha."""
    rng = SampleNoise(0, range(400), (25,))
    x = langevin(
        point_mass,
        3 * rng.normal(),
        rng,
        sigma=torch.ones(()),
        step_size=0.3,
        steps=60,
        convention=convention,
    )
    assert normal_tail(x, (1 - factor * 0.3 / 2) ** -0.5) > 1e-3
    other = (1 - (1.5 - factor) * 0.3 / 2) ** -0.5
    assert x.square().mean().sqrt().item() == pytest.approx((1 - factor * 0.3 / 2) ** -0.5, rel=0.02)
    assert abs(x.square().mean().sqrt().item() - other) > 0.02


def test_the_released_convention_is_the_papers_with_twice_the_step() -> None:
    paper = draw(range(5), convention="paper", step_size=4e-5)
    torch.testing.assert_close(draw(range(5), convention="released", step_size=2e-5), paper)


def test_it_is_algorithm_1_written_out_on_the_same_noise() -> None:
    sigmas, eps, steps = geometric_sigmas(1.0, 0.05, 4), 3e-4, 5
    rng = SampleNoise(3, range(6), IMAGE)
    x = rng.uniform().double()
    for sigma in sigmas.double():
        alpha = eps * sigma**2 / sigmas[-1].double() ** 2
        for _ in range(steps):
            x = x + alpha / 2 * mixture().score(x, sigma) + torch.sqrt(alpha) * rng.normal()
    found = annealed_langevin(
        mixture().score,
        sigmas,
        SampleNoise(3, range(6), IMAGE),
        step_size=eps,
        steps_per_level=steps,
        denoise=False,
        convention="paper",
    )
    torch.testing.assert_close(found.double(), x, rtol=1e-4, atol=1e-5)


def test_annealed_samples_of_a_mixture_have_its_law() -> None:
    """Its weights, and within a mode the law of one component at the last level, after denoising."""
    x = draw(range(1_500), steps_per_level=100, denoise=False)
    mode = mixture().mode(x)
    assert mode.double().mean().item() == pytest.approx(0.7, abs=0.06)
    deviation = x[mode == 1] - 0.8
    assert deviation.std().item() == pytest.approx((0.05**2 + 0.01**2) ** 0.5, rel=0.05)


def test_sample_k_is_sample_k_in_any_batch_and_order() -> None:
    together = draw(range(9))
    assert torch.equal(together, torch.cat([draw([k]) for k in range(9)]))
    assert torch.equal(together[[8, 2, 5]], draw([8, 2, 5]))
    assert torch.equal(together, torch.cat([draw(range(4)), draw(range(4, 9))]))


@pytest.mark.parametrize("denoise", [False, True])
def test_the_cost_is_levels_times_steps_and_one_for_denoising(denoise: bool) -> None:
    score = CountEvaluations(mixture().score)
    rng = SampleNoise(0, range(3), IMAGE)
    sigmas = geometric_sigmas(1.0, 0.01, 7)
    annealed_langevin(score, sigmas, rng, step_size=1e-5, steps_per_level=4, denoise=denoise)
    assert score.nfe == 7 * 4 + denoise


def test_denoising_finished_samples_is_denoising_at_the_end() -> None:
    score = CountEvaluations(mixture().score)
    raw = draw(range(4), denoise=False)
    assert torch.equal(denoised(score, raw, geometric_sigmas(1.0, 0.01, 6)), draw(range(4)))
    assert score.nfe == 1


def test_levels_are_intermediate_samples_of_one_run() -> None:
    sigmas = geometric_sigmas(1.0, 0.01, 6)
    rng = SampleNoise(3, range(4), IMAGE)
    levels = list(annealed_langevin_levels(mixture().score, sigmas, rng, step_size=2e-5, steps_per_level=20))
    assert len(levels) == 6
    assert torch.equal(levels[-1], draw(range(4), denoise=False))
    distance = [(x - mixture().means[mixture().mode(x)]).square().mean().item() for x in levels]
    assert distance[0] > 10 * distance[-1]


def test_the_start_is_uniform_and_is_not_overwritten() -> None:
    start = torch.rand(4, *IMAGE, generator=torch.Generator().manual_seed(0))
    kept = start.clone()
    draw(range(4), start=start)
    assert torch.equal(start, kept)
    rng, same = SampleNoise(3, range(4), IMAGE), SampleNoise(3, range(4), IMAGE)
    settings = {"step_size": 2e-5, "steps_per_level": 2, "denoise": False}
    sigmas = geometric_sigmas(1.0, 0.01, 6)
    given = annealed_langevin(mixture().score, sigmas, rng, start=rng.uniform(), **settings)
    assert torch.equal(given, annealed_langevin(mixture().score, sigmas, same, **settings))


def test_samples_carry_no_gradient() -> None:
    weight = torch.ones((), requires_grad=True)
    rng = SampleNoise(0, range(2), IMAGE)
    x = annealed_langevin(
        lambda x, sigma: -weight * x / sigma**2,
        geometric_sigmas(1.0, 0.1, 3),
        rng,
        step_size=1e-3,
        steps_per_level=2,
        denoise=True,
    )
    assert not x.requires_grad


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"step_size": 0.0}, "is 0.0"),
        ({"step_size": -1e-5}, "is -1e-05"),
        ({"step_size": math.nan}, "is nan"),
        ({"steps_per_level": 0}, "steps_per_level is 0"),
        ({"convention": "other"}, "convention is 'other'"),
    ],
)
def test_bad_settings_are_refused_by_name(changes: dict[str, object], named: str) -> None:
    with pytest.raises(UserError, match=named):
        draw(range(2), **changes)


def test_a_negative_number_of_steps_is_refused() -> None:
    rng = SampleNoise(0, range(2), IMAGE)
    with pytest.raises(UserError, match="steps is -1"):
        langevin(point_mass, rng.uniform(), rng, sigma=torch.ones(()), step_size=0.1, steps=-1)
