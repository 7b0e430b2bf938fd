"""Predictors and correctors against the closed forms of their variance, and the paper's steps written out."""

import math
from itertools import product
from typing import get_args

import pytest
import scipy.stats
import torch
from torch import Tensor

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.noise import geometric_sigmas
from pipeline.ncsn.rng import SampleNoise
from pipeline.ncsn.sampler import denoised
from pipeline.ncsn.samplers.predictor_corrector import Predictor
from tests.ncsn.samplers.functions import annealed_langevin, predictor_corrector, predictor_corrector_levels

LADDER = geometric_sigmas(2.0, 0.05, 8)
ONE = torch.ones(1)
SETTINGS: dict[str, object] = {"predictor": "ancestral", "corrector_steps": 2, "snr": 0.3}


def gaussian(std: float):
    """The exact noisy score of N(0, std^2 I); std 0 is a point."""
    return lambda x, sigma: -x / (std**2 + sigma**2)


def noise(samples: int = 40, dim: int = 10_000) -> SampleNoise:
    return SampleNoise(0, range(samples), (dim,))


def draw(samples: int = 3, **changes: object) -> Tensor:
    return predictor_corrector(gaussian(0.3), LADDER, noise(samples, 12), **SETTINGS | {"denoise": False} | changes)


@pytest.mark.parametrize(("predictor", "corrector_steps"), [*product(get_args(Predictor)[:2], [0, 2]), ("none", 2)])
def test_on_a_gaussian_the_variance_is_that_of_theory(predictor: Predictor, corrector_steps: int) -> None:
    """To 1 per cent. With p = s^2 + sigma^2 and d = sigma_i^2 - sigma_{i+1}^2, the predictors have
    v <- (1 - d / p)^2 v + d, the last d times (sigma_{i+1} / sigma_i)^2 for ancestral, and the corrector
    v <- (1 - a / p)^2 v + 2 a with a = 2 (r sigma)^2."""
    std, snr, rng, variance, above = 0.3, 0.3, noise(), 1.5**2, None
    levels = predictor_corrector_levels(
        gaussian(std),
        LADDER,
        rng,
        predictor=predictor,
        corrector_steps=corrector_steps,
        snr=snr,
        corrector="annealed",
        start=1.5 * rng.normal(),
    )
    for sigma, x in zip(LADDER.tolist(), levels, strict=True):
        if above is not None and predictor != "none":
            d = above**2 - sigma**2
            added = d * (sigma / above) ** 2 if predictor == "ancestral" else d
            variance = variance * (1 - d / (std**2 + above**2)) ** 2 + added
        for _ in range(corrector_steps):
            a = 2 * (snr * sigma) ** 2
            variance = variance * (1 - a / (std**2 + sigma**2)) ** 2 + 2 * a
        assert x.double().square().mean().item() == pytest.approx(variance, rel=0.01)
        above = sigma


def test_around_a_point_the_ancestral_predictor_is_exact() -> None:
    rng = noise()
    levels = predictor_corrector_levels(gaussian(0), LADDER, rng, **SETTINGS | {"corrector_steps": 0})
    for sigma, x in zip(LADDER.tolist(), levels, strict=True):
        assert scipy.stats.kstest(x[:4].flatten().numpy() / sigma, "norm").pvalue > 1e-3
        assert x.double().square().mean().item() == pytest.approx(sigma**2, rel=0.01)


@pytest.mark.parametrize("dim", [1, 2, 64])
def test_a_corrector_step_changes_the_norm_as_theory_says(dim: int) -> None:
    """Sigma 1: E|x|^2 grows by 4 r^2 (1 + r^2) D (D + 2) / |x|^2 - 4 r^2 D; within four standard errors."""
    snr, start = 0.5, torch.full((2_000, dim), 1.2)
    settings = {"predictor": "none", "corrector_steps": 1, "snr": snr, "start": start, "denoise": False}
    x = predictor_corrector(gaussian(0), ONE, noise(2_000, dim), **settings)
    growth = x.double().square().sum(1) - 1.2**2 * dim
    expected = 4 * snr**2 * ((1 + snr**2) * (dim + 2) / 1.2**2 - dim)
    error = growth.std().item() / len(growth) ** 0.5
    assert growth.mean().item() == pytest.approx(expected, abs=4 * error)
    assert error < 0.1 * abs(expected)


@pytest.mark.parametrize("snr", [0.3, 0.6])
def test_the_corrector_is_stationary_where_theory_says(snr: float) -> None:
    """E[1 / |x|^2] = 1 / ((1 + r^2) (D + 2) sigma^2), to 1 %; the exact law: 1 / ((D - 2) sigma^2)."""
    dim, sigma, steps, rng = 32, 0.7, 60, noise(2_000, 32)
    found = [
        x.double().square().sum(1).reciprocal().mean().item()
        for x in predictor_corrector_levels(
            gaussian(0),
            torch.linspace(1.001 * sigma, sigma, steps),
            rng,
            predictor="none",
            corrector_steps=1,
            snr=snr,
        )
    ]
    expected = 1 / ((1 + snr**2) * (dim + 2) * sigma**2)
    assert sum(found[steps // 2 :]) / (steps // 2) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("predictor", get_args(Predictor))
def test_it_is_the_papers_algorithm_on_the_same_noise(predictor: Predictor) -> None:
    """Algorithms 2 and 4 written out in float64, with torch's norms; the released order."""
    score, rng, r = gaussian(0.3), noise(3, 12), 0.3
    sigmas = LADDER.double()
    x = sigmas[0] * rng.normal().double()
    for i, sigma in enumerate(sigmas):
        for _ in range(2):
            g, z = score(x, sigma), rng.normal().double()
            e = 2 * (r * z.norm(dim=1, keepdim=True) / g.norm(dim=1, keepdim=True)) ** 2
            x = x + e * g + torch.sqrt(2 * e) * z
        if i < 7 and predictor != "none":
            d = sigma**2 - sigmas[i + 1] ** 2
            std = torch.sqrt(d) if predictor != "ancestral" else torch.sqrt(sigmas[i + 1] ** 2 * d / sigma**2)
            x = x + d * score(x, sigma) + std * rng.normal()
    torch.testing.assert_close(draw(predictor=predictor).double(), x, rtol=1e-4, atol=1e-5)


def test_the_annealed_corrector_alone_is_annealed_langevin_dynamics() -> None:
    start = torch.zeros(3, 12)
    found = draw(predictor="none", corrector="annealed", start=start)
    step_size = 2 * (0.3 * float(LADDER[-1])) ** 2
    other = annealed_langevin(
        gaussian(0.3),
        LADDER,
        noise(3, 12),
        step_size=step_size,
        steps_per_level=2,
        denoise=False,
        start=start,
    )
    torch.testing.assert_close(found, other)


def test_denoising_is_the_last_prediction_to_0() -> None:
    levels = list(predictor_corrector_levels(gaussian(0.3), LADDER, noise(3, 12), **SETTINGS))
    assert len(levels) == 8 and torch.equal(levels[-1], draw())
    assert torch.equal(draw(denoise=True), denoised(gaussian(0.3), draw(), LADDER))


def test_the_start_is_not_overwritten_and_gradients_stay_on_outside() -> None:
    start = torch.ones(3, 12)
    rng = noise(3, 12)
    for _ in predictor_corrector_levels(gaussian(0), LADDER, rng, start=start, **SETTINGS):
        assert torch.is_grad_enabled()
    assert torch.equal(start, torch.ones(3, 12))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"predictor": "euler"}, "predictor is 'euler'"),
        ({"corrector": "other"}, "corrector is 'other'"),
        ({"corrector_steps": -1}, "corrector_steps is -1"),
        ({"corrector_steps": 0, "predictor": "none"}, "corrector_steps is 0"),
        ({"snr": 0.0}, "snr is 0.0"),
        ({"snr": 1.0}, "snr is 1.0"),
        ({"snr": math.nan}, "snr is nan"),
    ],
)
def test_bad_settings_are_refused_by_name(changes: dict[str, object], named: str) -> None:
    with pytest.raises(UserError, match=named):
        draw(**changes)


def test_a_ratio_that_no_corrector_uses_may_be_anything() -> None:
    assert torch.equal(draw(corrector_steps=0, snr=0.0), draw(corrector_steps=0, snr=0.3))
