"""Losses: values and gradients against closed forms for Gaussians, and the place of their minimum."""

import torch
from torch import Tensor

from pipeline.ncsn.losses import denoising_score_matching, sliced_score_matching
from pipeline.ncsn.score import denoise

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
    torch.testing.assert_close(
        found.detach(), torch.tensor(expected, dtype=found.dtype), rtol=rtol, atol=0.01
    )


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
        loss = sliced_score_matching(
            score, spread * x, torch.ones(()), v, variance_reduced=variance_reduced
        ).mean()
        close(loss, DIM * (slope**2 * spread**2 / 2 - slope), rtol=0.03)
        (gradient,) = torch.autograd.grad(loss, score.slope)
        close(gradient, DIM * (slope * spread**2 - 1), rtol=0.03)


def test_sliced_losses_are_least_at_the_exact_score() -> None:
    """Newton's step lands on 1 / s^2, the losses being quadratic in the slope."""
    x, v = draws()
    spread = 1.5
    for variance_reduced in (False, True):
        score = Linear(0.1)
        loss = sliced_score_matching(
            score, spread * x, torch.ones(()), v, variance_reduced=variance_reduced
        ).mean()
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
