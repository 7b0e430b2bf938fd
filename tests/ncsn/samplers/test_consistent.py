"""Consistent annealed sampling: the noise of the ladder exactly, around a point, and theory's elsewhere."""

import math
import re

import pytest
import scipy.stats
import torch
from torch import Tensor

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.noise import geometric_sigmas
from pipeline.ncsn.rng import SampleNoise
from pipeline.ncsn.sampler import Ladder, denoised
from pipeline.ncsn.samplers.consistent import Consistent
from tests.ncsn.samplers.functions import consistent, consistent_levels

LADDER = geometric_sigmas(2.0, 0.05, 8)
IRREGULAR = torch.tensor([2.0, 1.7, 0.9, 0.6, 0.5])


def gaussian(std: float):
    """The exact noisy score of N(0, std^2 I); std 0 is a point."""
    return lambda x, sigma: -x / (std**2 + sigma**2)


def noise(indices: int = 40) -> SampleNoise:
    return SampleNoise(0, range(indices), (10_000,))


def eps(sigmas: Tensor, eta: float) -> float:
    return eta * float(sigmas[-1]) ** 2


@pytest.mark.parametrize("eta", [0.6, 1.0, 1.4])
@pytest.mark.parametrize("sigmas", [LADDER, IRREGULAR])
def test_around_a_point_the_noise_follows_the_ladder_exactly(sigmas: Tensor, eta: float) -> None:
    """sigma_{i+1} after level i, to 1 per cent in variance, and (1 - eta) sigma_L after the last."""
    levels = consistent_levels(gaussian(0), sigmas, noise(), step_size=eps(sigmas, eta))
    stds = [*sigmas[1:].tolist(), abs(1 - eta) * float(sigmas[-1])]
    for std, x in zip(stds, levels, strict=True):
        assert x.double().square().mean().item() == pytest.approx(std**2, rel=0.01, abs=1e-12)
        assert std < 1e-6 or scipy.stats.kstest(x[:4].flatten().numpy() / std, "norm").pvalue > 1e-3


@pytest.mark.parametrize("eta", [0.6, 1.0, 1.4])
def test_on_a_gaussian_the_variance_is_that_of_theory(eta: float) -> None:
    """v <- (1 - eta sigma_i^2 / (s^2 + sigma_i^2))^2 v + sigma_{i+1}^2 - (1 - eta)^2 sigma_i^2, to 1 %."""
    std, rng, ladder = 0.3, noise(), LADDER.tolist()
    variance = 1.5**2
    start = 1.5 * rng.normal()
    levels = consistent_levels(gaussian(std), LADDER, rng, step_size=eps(LADDER, eta), start=start)
    for x, sigma, following in zip(levels, ladder, [*ladder[1:], None], strict=True):
        variance *= (1 - eta * sigma**2 / (std**2 + sigma**2)) ** 2
        if following is not None:
            variance += following**2 - ((1 - eta) * sigma) ** 2
        assert x.double().square().mean().item() == pytest.approx(variance, rel=0.01)


@pytest.mark.parametrize("eta", [0.04, 0.4])
def test_on_a_fine_ladder_the_variance_kept_is_as_stated(eta: float) -> None:
    sigmas, rng = geometric_sigmas(4.0, 0.01, 250), SampleNoise(0, range(20), (1_000,))
    x = consistent(gaussian(0.3), sigmas, rng, step_size=eps(sigmas, eta), denoise=False)
    assert x.var().item() == pytest.approx((1 - eta / 2) * 0.3**2, rel=0.03)


def test_it_is_the_papers_update_on_the_same_noise() -> None:
    """With beta and gamma written out, in float64."""
    step_size, score = eps(LADDER, 0.7), gaussian(0.3)
    rng, sigmas = noise(2), LADDER.double()
    eta, gamma = step_size / sigmas[-1] ** 2, (sigmas[-1] / sigmas[0]) ** (1 / 7)
    beta = torch.sqrt(1 - ((1 - eta) / gamma) ** 2)
    x = sigmas[0] * rng.normal().double()
    for i, sigma in enumerate(sigmas):
        x = x + eta * sigma**2 * score(x, sigma)
        if i < 7:
            x = x + sigmas[i + 1] * beta * rng.normal()
    found = consistent(score, LADDER, noise(2), step_size=step_size, denoise=False)
    torch.testing.assert_close(found.double(), x, rtol=1e-4, atol=1e-5)


def test_denoising_is_a_step_of_its_own_after_the_last_level() -> None:
    step_size, score = eps(LADDER, 0.7), gaussian(0.3)
    levels = list(consistent_levels(score, LADDER, noise(2), step_size=step_size))
    raw, clean = (consistent(score, LADDER, noise(2), step_size=step_size, denoise=d) for d in (False, True))
    assert len(levels) == 8 and torch.equal(levels[-1], raw)
    assert torch.equal(clean, denoised(score, raw, LADDER)) and not torch.equal(clean, raw)


def test_the_start_is_not_overwritten_and_gradients_stay_on_outside() -> None:
    start = torch.ones(2, 10_000)
    for x in consistent_levels(gaussian(0), LADDER, noise(2), step_size=eps(LADDER, 0.7), start=start):
        assert torch.is_grad_enabled() and x is not start
    assert torch.equal(start, torch.ones(2, 10_000))


@pytest.mark.parametrize("sigmas", [LADDER, IRREGULAR])
def test_a_step_out_of_bounds_is_refused_with_the_bounds(sigmas: Tensor) -> None:
    ratio = float((sigmas[1:] / sigmas[:-1]).min())
    low, high = ((1 + sign * ratio) * float(sigmas[-1]) ** 2 for sign in (-1, 1))
    for inside in (low * 1.001, high * 0.999):
        assert consistent(gaussian(0), sigmas, noise(2), step_size=inside, denoise=True).isfinite().all()
    for outside in (low * 0.999, high * 1.001):
        with pytest.raises(UserError, match=re.escape(f"between {low:.4g} and {high:.4g}, ")) as raised:
            consistent(gaussian(0), sigmas, noise(2), step_size=outside, denoise=True)
        assert f"step_size is {outside}:" in str(raised.value)


@pytest.mark.parametrize("step_size", [0.0, -1.0, math.nan])
def test_a_step_that_is_not_positive_is_refused(step_size: float) -> None:
    with pytest.raises(UserError, match=f"step_size is {step_size}: it must be a positive number"):
        Consistent(4, step_size)


def test_the_analytic_step_keeps_the_law_around_a_point() -> None:
    """At eta = 1 - gamma^2 each level leaves gamma^2 sigma of the noise and adds the rest."""
    settled = Consistent(6, "analytic").on(Ladder(1.0, 0.05, 3))
    gamma = 0.05 ** (1 / 5)
    assert settled.options["step_size"] == pytest.approx(0.05**2 * (1 - gamma**2), rel=1e-5)
    x = settled.sample(lambda x, sigma: (0.5 - x) / sigma**2, noise(), denoise=False)
    assert float((x - 0.5).std()) == pytest.approx(0.05 * gamma**2, rel=0.01)
