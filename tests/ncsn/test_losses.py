"""Losses: values and gradients against closed forms for Gaussians, and the place of their minimum."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.losses import denoising_score_matching
from pipeline.ncsn.losses.edm import EDM, SIGMA_DATA
from pipeline.ncsn.losses.levels import Levels
from pipeline.ncsn.losses.log_uniform import LogUniform
from pipeline.ncsn.networks import unet
from pipeline.ncsn.score import Score, denoise, match
from pipeline.toy.mixture import GaussianMixture
from pipeline.toy.score_matching import (
    annealed_sliced_score_matching,
    explicit_score_matching,
    sliced_score_matching,
)

N, DIM = 200_000, 2


def draws(n: int = N, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, n, DIM, 1, 1, generator=generator, dtype=torch.float64).unbind()


class Linear:
    """score(x, sigma) = -slope x, the form of every centred Gaussian's."""

    def __init__(self, slope: float) -> None:
        self.slope = torch.tensor(slope, dtype=torch.float64, requires_grad=True)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return -self.slope * x


def close(found: Tensor, expected: float, rtol: float = 0.02) -> None:
    torch.testing.assert_close(found.detach(), torch.tensor(expected, dtype=found.dtype), rtol=rtol, atol=0.01)


def test_denoising_loss_of_one_example_is_its_formula() -> None:
    x, z = draws(5)
    sigma = torch.tensor([0.1, 0.2, 0.5, 1.0, 3.0], dtype=torch.float64)
    score = Linear(0.7)
    loss = denoising_score_matching(score, x, sigma, z)
    for k in range(5):
        target = -z[k] / sigma[k]
        found = score((x[k] + sigma[k] * z[k])[None], sigma[k])[0]
        expected = sigma[k] ** 2 / 2 * (found - target).square().sum()
        torch.testing.assert_close(loss[k], expected)


def test_denoising_loss_and_gradient_of_a_gaussian_are_the_closed_form() -> None:
    """x ~ N(0, s^2): E = D/2 (sigma^2 a^2 (s^2 + sigma^2) - 2 a sigma^2 + 1), for the score -a x."""
    x, z = draws()
    spread, sigma, slope = 1.5, 0.8, 0.6
    score = Linear(slope)
    loss = denoising_score_matching(score, spread * x, torch.tensor(sigma, dtype=x.dtype), z).mean()
    total = spread**2 + sigma**2
    close(loss, DIM / 2 * (sigma**2 * slope**2 * total - 2 * slope * sigma**2 + 1))
    (gradient,) = torch.autograd.grad(loss, score.slope)
    close(gradient, DIM * sigma**2 * (slope * total - 1))


def test_the_exact_score_minimises_the_denoising_loss() -> None:
    x, z = draws()
    spread, sigma = 1.5, 0.8
    score = Linear(1 / (spread**2 + sigma**2))
    loss = denoising_score_matching(score, spread * x, torch.tensor(sigma, dtype=x.dtype), z).mean()
    (gradient,) = torch.autograd.grad(loss, score.slope)
    close(gradient, 0.0)


def test_sliced_losses_and_gradients_of_a_gaussian_are_the_closed_form() -> None:
    """x ~ N(0, s^2), v ~ N(0, I): both are D (a^2 s^2 / 2 - a) for the score -a x; E (v^T x)^2 = E |x|^2."""
    x, v = draws()
    spread, slope = 1.5, 0.6
    for variance_reduced in (False, True):
        score = Linear(slope)
        loss = sliced_score_matching(score, spread * x, torch.ones(()), v, variance_reduced=variance_reduced).mean()
        close(loss, DIM * (slope**2 * spread**2 / 2 - slope), rtol=0.03)
        (gradient,) = torch.autograd.grad(loss, score.slope)
        close(gradient, DIM * (slope * spread**2 - 1), rtol=0.03)


def test_sliced_losses_are_least_at_the_exact_score() -> None:
    """Newton's step lands on 1 / s^2, the losses being quadratic in the slope."""
    x, v = draws()
    spread = 1.5
    for variance_reduced in (False, True):
        score = Linear(0.1)
        loss = sliced_score_matching(score, spread * x, torch.ones(()), v, variance_reduced=variance_reduced).mean()
        (first,) = torch.autograd.grad(loss, score.slope, create_graph=True)
        (second,) = torch.autograd.grad(first, score.slope)
        close(score.slope - first / second, 1 / spread**2)


def test_variance_reduction_averages_the_projection_out_of_the_norm() -> None:
    """For one x and many v, the plain norm varies with v and the reduced one does not: same mean."""
    _, v = draws()
    x = torch.tensor([3.0, -1.0], dtype=v.dtype).view(1, DIM, 1, 1).expand_as(v)
    flat = Linear(1.0)
    plain = sliced_score_matching(flat, x, torch.ones(()), v, variance_reduced=False)
    reduced = sliced_score_matching(flat, x, torch.ones(()), v, variance_reduced=True)
    close(plain.mean(), reduced.mean().item())
    divergence = -v.square().flatten(1).sum(1)
    torch.testing.assert_close(reduced - divergence, torch.full_like(divergence, (9 + 1) / 2))
    close((plain - divergence).var(), 10**2 / 2)


def test_sliced_loss_of_one_example_is_its_formula() -> None:
    """For the score A x: v^T A v + |A x|^2 / 2, or (v^T A x)^2 / 2."""
    x, v = draws(7)
    matrix = torch.tensor([[-1.0, 0.3], [0.2, -2.0]], dtype=x.dtype)

    def score(x: Tensor, sigma: Tensor) -> Tensor:
        return (x.flatten(1) @ matrix.T).view_as(x)

    flat_x, flat_v = x.flatten(1), v.flatten(1)
    divergence = torch.einsum("bi,ij,bj->b", flat_v, matrix, flat_v)
    value = flat_x @ matrix.T
    reduced = sliced_score_matching(score, x, torch.ones(()), v, variance_reduced=True)
    torch.testing.assert_close(reduced, divergence + value.square().sum(1) / 2)
    plain = sliced_score_matching(score, x, torch.ones(()), v, variance_reduced=False)
    torch.testing.assert_close(plain, divergence + (flat_v * value).sum(1).square() / 2)


def test_the_sliced_loss_can_be_measured_without_gradients() -> None:
    x, v = draws(7)
    with torch.no_grad():
        measured = sliced_score_matching(Linear(1.0), x, torch.ones(()), v, variance_reduced=True)
    assert not measured.requires_grad
    trained = sliced_score_matching(Linear(1.0), x, torch.ones(()), v, variance_reduced=True)
    torch.testing.assert_close(measured, trained.detach())


def test_denoising_returns_the_posterior_mean_of_a_gaussian() -> None:
    """x ~ N(0, s^2): E[x | x_tilde] = x_tilde s^2 / (s^2 + sigma^2)."""
    x, _ = draws(9)
    sigma = torch.linspace(0.1, 2, 9, dtype=x.dtype)
    total = 1.5**2 + sigma**2
    mean = denoise(lambda x, sigma: -x / total.view(-1, 1, 1, 1), x, sigma)
    torch.testing.assert_close(mean, x * (1.5**2 / total).view(-1, 1, 1, 1))


class Bent:
    """score(x, sigma) = -slope tanh(x) / (1 + sigma), the score of no Gaussian."""

    def __init__(self, slope: float) -> None:
        self.slope = torch.tensor(slope, dtype=torch.float64, requires_grad=True)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return -self.slope * x.tanh() / match(1 + sigma, x)


class Scaled:
    """slope times the exact score of N(0, spread^2 I) at every sigma: a linear family that holds it."""

    def __init__(self, slope: float, spread: float) -> None:
        self.slope, self.spread = torch.tensor(slope, dtype=torch.float64, requires_grad=True), spread

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return -self.slope * x / match(self.spread**2 + sigma**2, x)


def two_modes() -> GaussianMixture:
    means = torch.tensor([[-1.0, 0.5], [1.5, -0.5]], dtype=torch.float64).view(2, DIM, 1, 1)
    return GaussianMixture((0.3, 0.7), means, 0.6)


def log_uniform(highest: float, lowest: float, n: int = N) -> Tensor:
    ladder = torch.tensor([highest, lowest])
    return LogUniform().sigmas(np.random.default_rng(3), n, ladder).double()


def log_normal(p_mean: float, p_std: float, n: int = N) -> Tensor:
    return EDM(p_mean, p_std).sigmas(np.random.default_rng(4), n, torch.tensor([1.0])).double()


def edm_weight(sigma: Tensor | float) -> Tensor:
    return EDM(-1.89, 1.2).weight(torch.as_tensor(sigma, dtype=torch.float64))


def plain(score: Score, x: Tensor, sigma: Tensor, z: Tensor, v: Tensor) -> Tensor:
    return denoising_score_matching(score, x, sigma, z)


def edm(score: Score, x: Tensor, sigma: Tensor, z: Tensor, v: Tensor) -> Tensor:
    return edm_weight(sigma) * denoising_score_matching(score, x, sigma, z)


def sliced(score: Score, x: Tensor, sigma: Tensor, z: Tensor, v: Tensor) -> Tensor:
    return annealed_sliced_score_matching(score, x, sigma, z, v, variance_reduced=False)


def reduced(score: Score, x: Tensor, sigma: Tensor, z: Tensor, v: Tensor) -> Tensor:
    return annealed_sliced_score_matching(score, x, sigma, z, v, variance_reduced=True)


def explicit(score: Score, x: Tensor, sigma: Tensor, z: Tensor, v: Tensor) -> Tensor:
    return explicit_score_matching(score, Scaled(1.0, 1.5), x + match(sigma, x) * z, sigma)


Loss = Callable[[Score, Tensor, Tensor, Tensor, Tensor], Tensor]


@pytest.mark.parametrize("law", ["log-uniform", "log-normal"])
@pytest.mark.parametrize("loss", [plain, edm, sliced, reduced, explicit])
def test_over_many_sigmas_the_minimum_is_the_exact_score_at_each(loss: Loss, law: str) -> None:
    """Newton's step lands on a slope of 1, the losses being quadratic in it."""
    (x, z), (v, _) = draws(), draws(seed=1)
    sigma = log_uniform(3.0, 0.3) if law == "log-uniform" else log_normal(-0.5, 0.5)
    score = Scaled(0.2, 1.5)
    (first,) = torch.autograd.grad(loss(score, 1.5 * x, sigma, z, v).mean(), score.slope, create_graph=True)
    (second,) = torch.autograd.grad(first, score.slope)
    close(score.slope - first / second, 1.0, rtol=0.03)


def test_edms_loss_is_its_weight_times_the_error_of_the_denoiser() -> None:
    """Equation 2 of arXiv 2206.00364 with the weight of table 1, by another path."""
    x, z = draws(6)
    sigma = torch.tensor([0.002, 0.1, 0.25, 0.5, 1.0, 40.0], dtype=torch.float64)
    score = Bent(0.7)
    error = denoise(score, x + match(sigma, x) * z, sigma) - x
    weight = (sigma**2 + 0.25**2) / (sigma * 0.25) ** 2
    found = edm_weight(sigma) * denoising_score_matching(score, x, sigma, z)
    torch.testing.assert_close(found, weight * error.square().flatten(1).sum(1))


@pytest.mark.parametrize("sigma", [0.01, 0.25, 5.0])
def test_edms_loss_of_the_exact_denoiser_of_a_gaussian_is_the_same_at_every_sigma(sigma: float) -> None:
    """For data of standard deviation sigma_data it is D, which is what the weight is for."""
    x, z = draws()
    loss = edm_weight(sigma) * denoising_score_matching(Scaled(1.0, 0.25), 0.25 * x, torch.tensor(sigma).double(), z)
    close(loss.mean(), DIM)


def test_edms_loss_and_gradient_of_a_gaussian_are_the_closed_form() -> None:
    """x ~ N(0, s^2): 1 + sigma^2 / sigma_data^2 times D (sigma^2 a^2 (s^2 + sigma^2) - 2 a sigma^2 + 1)."""
    x, z = draws()
    spread, sigma, slope = 1.5, 0.8, 0.6
    score = Linear(slope)
    loss = edm_weight(sigma) * denoising_score_matching(score, spread * x, torch.tensor(sigma, dtype=x.dtype), z)
    (gradient,) = torch.autograd.grad(loss.mean(), score.slope)
    weight, total = 2 * (1 + sigma**2 / 0.25**2), spread**2 + sigma**2
    close(loss.mean(), weight * DIM / 2 * (sigma**2 * slope**2 * total - 2 * slope * sigma**2 + 1))
    close(gradient, weight * DIM * sigma**2 * (slope * total - 1))


def test_edms_settings_in_pixels_of_0_to_1_are_those_of_minus_1_to_1_halved() -> None:
    wide, ours = log_normal(-1.2, 1.2, 50), log_normal(-1.2 - math.log(2), 1.2, 50)
    torch.testing.assert_close(ours, wide / 2, rtol=1e-6, atol=0)
    torch.testing.assert_close(SIGMA_DATA, unet.SIGMA_DATA / 2)


@pytest.mark.parametrize("variance_reduced", [False, True])
def test_annealed_sliced_and_denoising_losses_differ_by_half_the_dimension(variance_reduced: bool) -> None:
    """Stein's identity, for a score that is not the truth's; their gradients are one."""
    (_, z), (v, _) = draws(), draws(seed=1)
    x = two_modes().sample(N, torch.Generator().manual_seed(5))
    sigma = log_uniform(1.5, 0.4)
    score = Bent(0.8)
    ssm = annealed_sliced_score_matching(score, x, sigma, z, v, variance_reduced=variance_reduced).mean()
    dsm = denoising_score_matching(score, x, sigma, z).mean()
    close(ssm, dsm.item() - DIM / 2)
    (found,), (expected,) = (torch.autograd.grad(loss, score.slope) for loss in (ssm, dsm))
    close(found, expected.item(), rtol=0.03)


def test_annealed_sliced_loss_of_one_example_is_its_formula() -> None:
    """sigma^2 (v^T J v + |s|^2 / 2) at x + sigma z, with the Jacobian J written out."""
    (x, z), (v, _) = draws(4), draws(4, seed=1)
    sigma = torch.tensor([0.1, 0.5, 1.0, 3.0], dtype=torch.float64)
    score = Bent(0.7)
    loss = annealed_sliced_score_matching(score, x, sigma, z, v, variance_reduced=True)
    for k in range(4):
        point = x[k] + sigma[k] * z[k]
        slopes = -0.7 * (1 - point.tanh() ** 2) / (1 + sigma[k])
        value = -0.7 * point.tanh() / (1 + sigma[k])
        expected = sigma[k] ** 2 * ((v[k] ** 2 * slopes).sum() + value.square().sum() / 2)
        torch.testing.assert_close(loss[k], expected)


@pytest.mark.parametrize("variance_reduced", [False, True])
def test_sliced_and_explicit_losses_differ_by_the_truths_own_norm(variance_reduced: bool) -> None:
    """Hyvärinen's identity on a mixture: E sliced + E |grad log p|^2 / 2 = E explicit; one gradient."""
    mixture = two_modes()
    x, v = mixture.sample(N, torch.Generator().manual_seed(5)), draws()[1]
    score, clean = Bent(0.8), torch.zeros(())
    ssm = sliced_score_matching(score, x, clean, v, variance_reduced=variance_reduced).mean()
    esm = explicit_score_matching(score, mixture.score, x, clean).mean()
    close(ssm, esm.item() - mixture.score(x).square().flatten(1).sum(1).mean().item() / 2)
    (found,), (expected,) = (torch.autograd.grad(loss, score.slope) for loss in (ssm, esm))
    close(found, expected.item(), rtol=0.03)


def test_the_explicit_loss_of_a_gaussian_is_the_closed_form() -> None:
    """(a - b)^2 |x|^2 / 2 for each example, and D s^2 (a - b)^2 / 2 in the mean."""
    x, sigma = 1.5 * draws()[0], torch.ones(())
    score = Linear(0.6)
    loss = explicit_score_matching(score, Linear(1.0), x, sigma)
    torch.testing.assert_close(loss, 0.4**2 / 2 * x.square().flatten(1).sum(1))
    (gradient,) = torch.autograd.grad(loss.mean(), score.slope)
    close(gradient, DIM * 1.5**2 * -0.4)


def test_draws_of_sigma_have_their_laws() -> None:
    """Kolmogorov and Smirnov on 20,000 draws, which tell apart laws that differ by about 1 % anywhere."""
    logs = log_uniform(50.0, 0.01, 20_000).log()
    assert scipy.stats.kstest(logs, "uniform", (math.log(0.01), math.log(5_000))).pvalue > 0.01
    logs = log_normal(-1.89, 1.2, 20_000).log()
    assert scipy.stats.kstest(logs, "norm", (-1.89, 1.2)).pvalue > 0.01


def test_each_level_is_drawn_equally_often_and_weighs_one() -> None:
    ladder = torch.tensor([3.0, 1.0, 0.5])
    drawn = Levels().sigmas(np.random.default_rng(0), 3_000, ladder)
    assert [int((drawn == level).sum()) for level in ladder] == pytest.approx([1_000] * 3, abs=90)
    assert drawn.dtype == torch.float32 and bool((Levels().weight(drawn) == 1).all())


@pytest.mark.parametrize(("p_mean", "p_std", "named"), [(0.0, 0.0, "p_std is 0.0"), (math.inf, 1.0, "p_mean is inf")])
def test_bad_settings_are_refused_by_name(p_mean: float, p_std: float, named: str) -> None:
    with pytest.raises(UserError, match=named):
        EDM(p_mean, p_std)
