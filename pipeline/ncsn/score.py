"""What a score model is, and the denoiser it defines."""

from typing import Protocol

import torch
from torch import Tensor


class Score(Protocol):
    """Anything that returns the gradient of log p_sigma at x: a network, a mixture, a plain function."""

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor:
        """The score of the data convolved with N(0, sigma^2 I).

        Args:
            x: points, (B, *shape).
            sigma: noise standard deviation in the unit of x, () or (B,).

        Returns:
            grad log p_sigma(x), (B, *shape).
        """
        ...


def match(sigma: Tensor | float, x: Tensor) -> Tensor:
    """`sigma`, () or (B,), shaped (1, 1, ...) or (B, 1, ...) to multiply x, (B, *shape)."""
    sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    return sigma.reshape(-1, *[1] * (x.dim() - 1))


def denoise(score: Score, x: Tensor, sigma: Tensor) -> Tensor:
    """The expected clean image given a noisy one, x + sigma^2 score(x, sigma) (Tweedie's formula).

    The last step of NCSNv2's sampler (arXiv 2006.09011, section 4.1). One evaluation of the score.

    Args:
        score: the score model.
        x: noisy images, (B, *shape).
        sigma: their noise standard deviation, () or (B,).

    Returns:
        Denoised images, (B, *shape), unclamped.
    """
    return x + match(sigma, x) ** 2 * score(x, sigma)
