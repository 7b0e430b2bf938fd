"""Sliced and explicit score matching, per example: what denoising score matching is compared with.

Of one score and one noise level, the expectations of all three differ by what no score can change. So all
have the same gradients and the same minimiser, the score of the noisy data.

References:
    A. Hyvärinen, "Estimation of Non-Normalized Statistical Models by Score Matching", 2005, equation 2.
    Y. Song et al., "Sliced Score Matching", arXiv 1905.07088.
    Y. Song, S. Ermon, "Generative Modeling by Estimating Gradients of the Data Distribution",
        arXiv 1907.05600.
"""

import torch
from torch import Tensor

from pipeline.ncsn.score import Score, match


def explicit_score_matching(score: Score, target: Score, x: Tensor, sigma: Tensor) -> Tensor:
    """1/2 ||score(x, sigma) - target(x, sigma)||^2, half the Fisher divergence in expectation.

    Args:
        score: the score model.
        target: the true score, such as that of a `GaussianMixture`.
        x: points of the density whose score is the target, (B, *shape).
        sigma: handed to both, () or (B,).

    Returns:
        (B,), summed over pixels and channels; the other losses are this one but for a constant.
    """
    return (score(x, sigma) - target(x, sigma)).square().flatten(1).sum(1) / 2


def sliced_score_matching(
    score: Score, x: Tensor, sigma: Tensor, projection: Tensor, *, variance_reduced: bool
) -> Tensor:
    """Sliced score matching with one projection v: v^T (grad score) v plus half a squared norm.

    The norm is (v^T score)^2 / 2 in the plain form (arXiv 1905.07088, equation 8) and ||score||^2 / 2 in
    the variance-reduced one (equation 9), its expectation for v of covariance I.

    Args:
        score: the score model.
        x: points of the density whose score is sought, (B, *shape); noisy ones for a noisy density.
        sigma: handed to the score, () or (B,).
        projection: v, (B, *shape), of mean 0 and covariance I (normal or Rademacher).
        variance_reduced: the form.

    Returns:
        (B,); its expectation is the explicit score matching loss but for a constant. Differentiable in
        the parameters where gradients are enabled.
    """
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = score(x, sigma)
        (gradient,) = torch.autograd.grad((value * projection).sum(), x, create_graph=differentiable)
    norm = _dot(value, value) if variance_reduced else _dot(value, projection).square()
    loss = _dot(gradient, projection) + norm / 2
    return loss if differentiable else loss.detach()


def annealed_sliced_score_matching(
    score: Score, x: Tensor, sigma: Tensor, noise: Tensor, projection: Tensor, *, variance_reduced: bool
) -> Tensor:
    """sigma^2 times sliced score matching on noisy points: NCSN trained without denoising (section 4.2).

    Its expectation is that of `denoising_score_matching` less D / 2, for every score.

    Args:
        score: the score model.
        x: clean images, (B, *shape), of D values each.
        sigma: noise standard deviation of each example, () or (B,), in the unit of x.
        noise: standard normal draws z, (B, *shape); the points are x + sigma z.
        projection, variance_reduced: see `sliced_score_matching`.

    Returns:
        (B,).
    """
    x_tilde = x + match(sigma, x) * noise
    return sigma**2 * sliced_score_matching(score, x_tilde, sigma, projection, variance_reduced=variance_reduced)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)
