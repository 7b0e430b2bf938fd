"""Denoising score matching, at discrete levels or at any sigma, and where sigma comes from.

    sigma = log_normal_sigma(z, p_mean=-1.2 - math.log(2), p_std=1.2)  # EDM's, for pixels in [0, 1]
    loss = edm_weighting(sigma, 0.25) * denoising_score_matching(score, x, sigma, noise)

Draws are made from given uniform or normal ones, so that training stays a function of position.

References:
    P. Vincent, "A Connection Between Score Matching and Denoising Autoencoders", 2011.
    Y. Song, S. Ermon, "Generative Modeling by Estimating Gradients of the Data Distribution",
        arXiv 1907.05600.
    T. Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (EDM),
        arXiv 2206.00364.
"""

import math

import torch
from torch import Tensor

from ..errors import UserError
from ..score import Score, match


def denoising_score_matching(score: Score, x: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """sigma^2 times the denoising score matching loss, of which equation 6 of NCSN takes the mean.

    sigma^2 / 2 ||score(x_tilde, sigma) + noise / sigma||^2 with x_tilde = x + sigma noise, written as
    1/2 ||sigma score + noise||^2, which no small sigma can blow up.

    Args:
        score: the score model.
        x: clean images, (B, *shape).
        sigma: noise standard deviation of each example, () or (B,), in the unit of x: levels of a ladder
            or any others.
        noise: standard normal draws z, (B, *shape).

    Returns:
        (B,), summed over pixels and channels.
    """
    scale = match(sigma, x)
    residual = scale * score(x + scale * noise, sigma) + noise
    return residual.square().flatten(1).sum(1) / 2


def edm_weighting(sigma: Tensor, sigma_data: float) -> Tensor:
    """What makes EDM's loss of `denoising_score_matching`: 2 (sigma^2 + sigma_data^2) / sigma_data^2.

    EDM's is lambda(sigma) ||denoiser(x_tilde, sigma) - x||^2, summed over pixels, with lambda =
    (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 (equation 2 and table 1). Since denoiser - x =
    sigma (sigma score + noise), it is lambda sigma^2 ||sigma score + noise||^2.

    Args:
        sigma: of each example, () or (B,).
        sigma_data: standard deviation of the data, in the unit of x. EDM's 0.5 is for pixels in [-1, 1]:
            0.25 for pixels in [0, 1], where every sigma is half of EDM's too, and the weight the same.

    Returns:
        The factor, of sigma's shape.

    Raises:
        UserError: a sigma_data that is not a positive number.
    """
    _positive("sigma_data", sigma_data)
    return 2 * (1 + (sigma / sigma_data) ** 2)


def log_uniform_sigma(u: Tensor, sigma_max: float, sigma_min: float) -> Tensor:
    """sigma whose logarithm is uniform: the continuous form of a geometric ladder, with the same ends.

    Args:
        u: uniform draws in [0, 1), of any shape; 0 gives sigma_min.
        sigma_max: largest noise standard deviation, in the unit of the pixels.
        sigma_min: smallest one.

    Returns:
        sigma_min (sigma_max / sigma_min)^u, of u's shape and dtype.

    Raises:
        UserError: an end that is not a positive number, or ends that are not descending.
    """
    _positive("sigma_max", sigma_max)
    _positive("sigma_min", sigma_min)
    if sigma_min >= sigma_max:
        raise UserError(f"sigma_min is {sigma_min}: it must be below sigma_max, {sigma_max}.")
    return sigma_min * torch.exp(u * math.log(sigma_max / sigma_min))


def log_normal_sigma(z: Tensor, p_mean: float, p_std: float) -> Tensor:
    """sigma whose logarithm is normal, EDM's law of noise levels in training (table 1).

    Args:
        z: standard normal draws, of any shape.
        p_mean: mean of log sigma. EDM's -1.2 is for pixels in [-1, 1]: for [0, 1], where sigma is half,
            -1.2 - log 2 = -1.89.
        p_std: standard deviation of log sigma, 1.2 in EDM in either unit.

    Returns:
        exp(p_mean + p_std z), of z's shape and dtype.

    Raises:
        UserError: a p_mean that is no number, or a p_std that is not a positive one.
    """
    _positive("p_std", p_std)
    if not math.isfinite(p_mean):
        raise UserError(f"p_mean is {p_mean}: it must be a number, such as -1.89.")
    return torch.exp(p_mean + p_std * z)


def _positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise UserError(f"{name} is {value}: it must be a positive number.")
