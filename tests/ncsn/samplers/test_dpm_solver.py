"""DPM-Solver++(2M) against closed forms, exact laws, its order and diffusers."""

import math

import pytest
import torch
from diffusers import EDMDPMSolverMultistepScheduler
from torch import Tensor

from pipeline.ncsn.noise import geometric_sigmas
from pipeline.ncsn.rng import SampleNoise
from pipeline.ncsn.sampler import denoised
from pipeline.toy.mixture import GaussianMixture
from tests.ncsn.samplers.exact import IMAGE, NO_NOISE, image_mixture, ladder, mixture, slope, solved
from tests.ncsn.samplers.functions import dpm_solver, dpm_solver_levels


def test_a_gaussian_is_solved_at_order_2() -> None:
    """Closed form: x(sigma) = m + (x_0 - m) sqrt((s^2 + sigma^2) / (s^2 + sigma_0^2))."""
    m, s = torch.tensor([0.3, 0.6], dtype=torch.float64), 0.4
    start = m + 5 * torch.tensor([[-1.0, 0.5], [2.0, 1.0]], dtype=torch.float64)
    exact = m + (start - m) * math.sqrt((s**2 + 0.1**2) / (s**2 + 5**2))
    score = GaussianMixture((1.0,), m[None], s).score

    def error(steps: int) -> float:
        return float((dpm_solver(score, ladder(steps), NO_NOISE, denoise=False, start=start) - exact).abs().max())

    assert slope(error) == pytest.approx(2, abs=0.1)
    assert error(256) < 1e-4


@pytest.mark.parametrize("dim", [1, 2, 64])
def test_a_mixture_is_solved_at_order_2(dim: int) -> None:
    score = mixture(dim).score
    noise = torch.randn(16, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = 0.5 + 5 * noise
    exact = solved(score, start)

    def error(steps: int) -> float:
        return float((dpm_solver(score, ladder(steps), NO_NOISE, denoise=False, start=start) - exact).norm())

    assert slope(error) == pytest.approx(2, abs=0.15)


def test_a_denoiser_that_is_linear_in_log_sigma_is_solved_exactly_in_the_middle() -> None:
    """D = a - b log sigma, whatever the steps: x' = (s' / s) x + (1 - s' / s) D at sqrt(s s')."""
    sigmas = torch.tensor([5.0, 3.0, 0.7, 0.5, 0.04], dtype=torch.float64)

    def score(x: Tensor, sigma: Tensor) -> Tensor:
        return (0.2 - 0.3 * sigma.log() - x) / sigma**2

    first, *states = dpm_solver_levels(score, sigmas, NO_NOISE, start=torch.ones(1, 1, dtype=torch.float64))
    for i, x in enumerate(states):
        ratio = sigmas[i + 1] / sigmas[i]
        middle = (sigmas[i] * sigmas[i + 1]).sqrt() if i else sigmas[0]
        expected = ratio * first + (1 - ratio) * (0.2 - 0.3 * middle.log())
        torch.testing.assert_close(x, expected)
        first = x


@pytest.mark.parametrize("steps", [6, 20])
def test_it_is_diffusers_sampler(steps: int) -> None:
    """EDMDPMSolverMultistepScheduler is given the output that its preconditioning turns into the denoiser.
    `lower_order_final` is off, an extra of theirs for fewer than 15 steps."""
    other = EDMDPMSolverMultistepScheduler(sigma_min=0.01, sigma_max=5.0, lower_order_final=False)
    other.set_timesteps(steps)
    sigmas, score = other.sigmas[:-1], image_mixture().score
    start = expected = 0.5 + 5 * SampleNoise(3, range(6), IMAGE).normal()
    for t, sigma in zip(other.timesteps, sigmas, strict=True):
        clean = expected + sigma**2 * score(expected, sigma)
        skipped = other.precondition_outputs(expected, torch.zeros_like(clean), sigma)
        scale = other.precondition_outputs(torch.zeros(()), torch.ones(()), sigma)
        expected = other.step((clean - skipped) / scale, t, expected).prev_sample
    found = dpm_solver(score, sigmas, NO_NOISE, denoise=True, start=start)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def draw(indices: list[int] | range, denoise: bool = True) -> Tensor:
    rng = SampleNoise(3, indices, IMAGE)
    return dpm_solver(image_mixture().score, geometric_sigmas(5.0, 0.01, 9), rng, denoise=denoise)


def test_the_levels_run_from_the_drawn_start_to_the_last() -> None:
    sigmas, rng = geometric_sigmas(5.0, 0.01, 9), SampleNoise(3, range(4), IMAGE)
    states = list(dpm_solver_levels(image_mixture().score, sigmas, rng))
    assert len(states) == 9
    assert torch.equal(states[0], 0.5 + 5 * SampleNoise(3, range(4), IMAGE).normal())
    assert torch.equal(states[-1], draw(range(4), denoise=False))
    assert torch.equal(denoised(image_mixture().score, states[-1], sigmas), draw(range(4)))


def test_samples_carry_no_gradient_and_the_caller_keeps_his() -> None:
    weight = torch.ones((), requires_grad=True)
    rng = SampleNoise(0, range(2), IMAGE)
    levels = dpm_solver_levels(lambda x, sigma: -weight * x / sigma**2, geometric_sigmas(1.0, 0.1, 3), rng)
    for x in levels:
        assert not x.requires_grad
        assert torch.is_grad_enabled()
