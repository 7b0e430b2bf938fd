"""Score matching losses, per example: the mean over a batch is the caller's.

References:
    P. Vincent, "A Connection Between Score Matching and Denoising Autoencoders", 2011.
    Y. Song et al., "Sliced Score Matching", arXiv 1905.07088.
    Y. Song, S. Ermon, "Generative Modeling by Estimating Gradients of the Data Distribution",
        arXiv 1907.05600.
"""

import torch
from torch import Tensor

from pipeline.ncsn.score import Score, match


def denoising_score_matching(score: Score, x: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """sigma^2 times the denoising score matching loss, of which equation 6 of NCSN takes the mean.

    sigma^2 / 2 ||score(x_tilde, sigma) + noise / sigma||^2 with x_tilde = x + sigma noise, written as
    1/2 ||sigma score + noise||^2, which no small sigma can blow up.

    Args:
        score: the score model.
        x: clean images, (B, *shape).
        sigma: noise standard deviation of each example, () or (B,), in the unit of x.
        noise: standard normal draws z, (B, *shape).

    Returns:
        (B,), summed over pixels and channels.
    """
    scale = match(sigma, x)
    residual = scale * score(x + scale * noise, sigma) + noise
    return residual.square().flatten(1).sum(1) / 2


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
    norm = value.square() if variance_reduced else None
    half = norm.flatten(1).sum(1) if norm is not None else _dot(value, projection).square()
    loss = _dot(gradient, projection) + half / 2
    return loss if differentiable else loss.detach()


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)
