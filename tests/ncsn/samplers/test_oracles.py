"""Every sampler against exact mixtures in 1, 2 and 64 dimensions, with a test whose power is shown.

What is tested of each here: the law of its samples, that sample k is sample k, and its cost. A new sampler is
a line in LAWS and one in SHORT.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from pipeline.ncsn.inpainting import inpainting
from pipeline.ncsn.nfe import CountEvaluations
from pipeline.ncsn.noise import geometric_sigmas, karras_sigmas, step_size, variance_ratio
from pipeline.ncsn.rng import SampleNoise
from pipeline.ncsn.score import Score
from pipeline.toy.mixture import GaussianMixture
from tests.ncsn.samplers.functions import (
    annealed_langevin,
    annealed_langevin_levels,
    consistent,
    dpm_solver,
    predictor_corrector,
    probability_flow,
)

Sampler = Callable[..., Tensor]
Settings = dict[str, object]

STD, PLACES = 0.1, (-0.42, 0.18)
SIZES = {1: 12_000, 2: 10_000, 64: 800}
"""How many samples are tested in each dimension."""
LEVEL = 1e-3
"""The law is rejected where a Kolmogorov-Smirnov p-value is below."""
FAULTS: dict[str, Settings] = {
    "mean off by a tenth of std in each coordinate": {"shift": 0.1},
    "variance 10 % too large": {"spread": 1.1**0.5},
    "weights of .4 and .6 for .3 and .7": {"weights": (0.4, 0.6)},
}
"""The power that is claimed: a sampler with any one of these faults is rejected, in each dimension."""

PREDICT: Settings = {"corrector_steps": 0, "snr": 0.1, "denoise": False}
CORRECT: Settings = {"corrector_steps": 1, "snr": 0.1, "denoise": False}
RAW: Settings = {"denoise": False}
FAR = 200.0
"""Where the ODE starts: around 0.5, which in 64 dimensions is 4 from the mixture's mean of 0."""
TO_STD, BEYOND = geometric_sigmas(3.0, STD, 400), geometric_sigmas(3.0, STD / 10, 250)

LAWS: dict[str, tuple[Sampler, Tensor, Settings, float]] = {
    "annealed Langevin": (
        annealed_langevin,
        geometric_sigmas(1.0, STD, 6),
        {"step_size": 0.045 * STD**2, "steps_per_level": 120, "denoise": False},
        STD,
    ),
    "consistent": (consistent, BEYOND, {"step_size": 0.03 * (STD / 10) ** 2, "denoise": False}, 0.0),
    "reverse diffusion": (predictor_corrector, TO_STD, {"predictor": "reverse_diffusion", **PREDICT}, STD),
    "ancestral": (predictor_corrector, TO_STD, {"predictor": "ancestral", **PREDICT}, STD),
    "reverse diffusion, corrected": (
        predictor_corrector,
        geometric_sigmas(3.0, STD, 200),
        {"predictor": "reverse_diffusion", **CORRECT},
        STD,
    ),
    "reverse diffusion, denoised": (
        predictor_corrector,
        BEYOND,
        {"predictor": "reverse_diffusion", **PREDICT, "denoise": True},
        0.0,
    ),
    "euler": (probability_flow, karras_sigmas(FAR, STD, 300), {"method": "euler", **RAW}, STD),
    "heun": (probability_flow, karras_sigmas(FAR, STD, 100), RAW, STD),
    "stochastic Heun": (probability_flow, karras_sigmas(FAR, STD, 150), {"churn": 20.0, **RAW}, STD),
    "DPM-Solver": (dpm_solver, karras_sigmas(FAR, STD, 60), RAW, STD),
    "DPM-Solver, denoised": (dpm_solver, karras_sigmas(FAR, STD / 10, 60), {"denoise": True}, 0.0),
}
"""The sampler, its ladder and settings, and the noise sigma of the law that its samples should have."""

DENOISE: Settings = {"denoise": True}
LANGEVIN: Settings = {"step_size": 2e-5, "steps_per_level": 3}
PAINT: Settings = {**LANGEVIN, "known": torch.linspace(0, 1, 5), "mask": torch.arange(5) % 2}
SHORT: dict[str, tuple[Sampler, Settings, int]] = {
    "annealed Langevin": (annealed_langevin, LANGEVIN | DENOISE, 6 * 3 + 1),
    "consistent": (consistent, {"step_size": 9e-5} | DENOISE, 6 + 1),
    "reverse diffusion": (predictor_corrector, {"predictor": "reverse_diffusion", **PREDICT}, 5),
    "ancestral": (predictor_corrector, {"predictor": "ancestral", **PREDICT}, 5),
    "corrector": (predictor_corrector, {"predictor": "none", **CORRECT}, 6),
    "annealed corrector": (
        predictor_corrector,
        {"predictor": "none", **CORRECT, "corrector_steps": 3, "corrector": "annealed"},
        6 * 3,
    ),
    "predictor-corrector": (predictor_corrector, {"predictor": "ancestral", **CORRECT, **DENOISE}, 6 * 2),
    "euler": (probability_flow, {"method": "euler"} | DENOISE, 6),
    "heun": (probability_flow, DENOISE, 2 * 6 - 1),
    "stochastic Heun": (probability_flow, {"churn": 4.0} | DENOISE, 2 * 6 - 1),
    "DPM-Solver": (dpm_solver, DENOISE, 6),
    "heun, not denoised": (probability_flow, RAW, 2 * 5),
    "DPM-Solver, not denoised": (dpm_solver, RAW, 5),
    "inpainting v1": (inpainting, {"form": "v1", **PAINT}, 6 * 3),
    "inpainting v2": (inpainting, {"form": "v2", **PAINT}, 6 * 3),
}
"""The sampler, short settings, and its evaluations of the score on a ladder of 6 levels."""


def mixture(dim: int, std: float = STD, *, shift: float = 0, spread: float = 1, weights=(0.3, 0.7)):
    """Two modes on the diagonal, of mean 0 and 6 times STD apart; with faults, in units of std."""
    means = torch.tensor(PLACES)[:, None] * torch.ones(dim) / dim**0.5 + shift * std
    return GaussianMixture(weights, means, spread * std)


def samples(dim: int, name: str, score: Score) -> Tensor:
    """SIZES[dim] points, (N, dim): 20 samples of many points, which share a generator, and a norm."""
    sampler, sigmas, settings, _ = LAWS[name]
    rng = SampleNoise(0, range(20), (SIZES[dim] // 20, dim))

    def of_points(x: Tensor, sigma: Tensor) -> Tensor:
        return score(x.view(-1, dim), sigma).view_as(x)

    return sampler(of_points, sigmas, rng, **settings).view(-1, dim)


def p_values(x: Tensor, sigma: float) -> list[float]:
    """Kolmogorov-Smirnov tests of the place on the diagonal, of its distance there from the nearest mode,
    and of the distance from the diagonal, each against its exact law."""
    dim, (low, high) = x.shape[1], PLACES
    std, middle = math.hypot(STD, sigma), sum(PLACES) / 2
    x = x.double()
    place = x.sum(1) / dim**0.5
    nearest = torch.minimum((place - low).abs(), (place - high).abs())
    off = (x - x.mean(1, keepdim=True)).norm(dim=1) / std

    def law(t: np.ndarray) -> np.ndarray:
        return 0.3 * scipy.stats.norm.cdf(t, low, std) + 0.7 * scipy.stats.norm.cdf(t, high, std)

    def nearest_law(t: np.ndarray) -> np.ndarray:
        inner = law(np.minimum(low + t, middle)) - law(np.maximum(high - t, middle))
        return inner - law(low - t) + law(high + t)

    tests = [(place, law), (nearest, nearest_law), (off, scipy.stats.chi(dim - 1).cdf)]
    return [scipy.stats.kstest(found.numpy(), exact).pvalue for found, exact in tests[: 2 + (dim > 1)]]


@pytest.mark.parametrize("dim", SIZES)
@pytest.mark.parametrize("name", LAWS)
def test_samples_have_the_exact_law(name: str, dim: int) -> None:
    assert min(p_values(samples(dim, name, mixture(dim).score), sigma=LAWS[name][3])) > LEVEL


@pytest.mark.parametrize("sigma", [0.0, STD])
@pytest.mark.parametrize("dim", SIZES)
@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_that_test_has_its_power(fault: str | None, dim: int, sigma: float) -> None:
    """Faultless samplers of each law of LAWS pass; with a fault, four of four are rejected."""
    faulty = mixture(dim, math.hypot(STD, sigma), **FAULTS.get(fault, {}))
    for seed in range(4):
        x = faulty.sample(SIZES[dim], torch.Generator().manual_seed(seed))
        assert (min(p_values(x, sigma)) < LEVEL) == (fault is not None)


@pytest.mark.parametrize("steps", [1, 5])
def test_annealed_langevin_keeps_the_variance_of_technique_4_to_one_per_cent(steps: int) -> None:
    """From N(0, sigma_{i-1}^2), s_T^2 / sigma_i^2 by proposition 3; 500,000 values give it to 0.2 %."""
    sigmas = geometric_sigmas(2.0, 0.05, 8)
    ratio, eps = float(sigmas[0] / sigmas[1]), step_size(sigmas, steps)
    u = torch.tensor(eps / float(sigmas[-1]) ** 2, dtype=torch.float64)
    kept, expected = float((1 - u) ** (2 * steps)), 1.0
    rng = SampleNoise(0, range(50), (10_000,))
    levels = annealed_langevin_levels(
        lambda x, sigma: -x / sigma**2,
        sigmas,
        rng,
        step_size=eps,
        steps_per_level=steps,
        start=ratio * sigmas[0] * rng.normal(),
    )
    for sigma, x in zip(sigmas.tolist(), levels, strict=True):
        expected = kept * expected * ratio**2 + variance_ratio(u, 0.0, steps).item()
        assert x.double().square().mean().item() / sigma**2 == pytest.approx(expected, rel=0.01)
    assert abs(expected - 1) > 0.02  # so that sigma_i^2 itself would not pass


def elementwise(x: Tensor, sigma: Tensor) -> Tensor:
    """A score in which no sample and no pixel sees another: N(0.3, 0.2^2) with noise."""
    return -(x - 0.3) / (sigma**2 + 0.04)


def short(name: str, indices: list[int] | range, score: Score = elementwise) -> Tensor:
    sampler, settings, _ = SHORT[name]
    return sampler(score, geometric_sigmas(1.0, 0.01, 6), SampleNoise(3, indices, (3, 7, 5)), **settings)


@pytest.mark.parametrize("name", SHORT)
def test_sample_k_is_sample_k_in_any_batch_and_order(name: str) -> None:
    together = short(name, range(9))
    assert torch.equal(together, torch.cat([short(name, [k]) for k in range(9)]))
    assert torch.equal(together[[8, 2, 5]], short(name, [8, 2, 5]))
    assert torch.equal(together, torch.cat([short(name, range(4)), short(name, range(4, 9))]))
    assert len(together.unique(dim=0)) == 9 and math.isfinite(together.sum())


@pytest.mark.parametrize("name", SHORT)
def test_the_cost_is_counted(name: str) -> None:
    score = CountEvaluations(elementwise)
    short(name, range(2), score)
    assert score.nfe == SHORT[name][2]


@pytest.mark.parametrize("name", SHORT)
def test_samples_carry_no_gradient(name: str) -> None:
    weight = torch.ones((), requires_grad=True)
    assert not short(name, range(2), lambda x, sigma: weight * elementwise(x, sigma)).requires_grad
