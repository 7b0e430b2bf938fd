"""Denoising score matching, and the losses that networks are trained by: a kind each, one file each.

A loss says which noise levels are drawn and how each is weighted: the mean over a batch of
`loss.weight(sigma) * denoising_score_matching(score, x, sigma, noise)` is what training minimises. Draws come
from the generator that is given, so that training stays a function of position.

References:
    P. Vincent, "A Connection Between Score Matching and Denoising Autoencoders", 2011.
    Y. Song, S. Ermon, "Generative Modeling by Estimating Gradients of the Data Distribution",
        arXiv 1907.05600.
"""

from typing import ClassVar, Protocol

import numpy as np
from torch import Tensor

from ..score import Score, match


class Loss(Protocol):
    """What a kind of this room is: a frozen dataclass of its settings with these members."""

    on_levels: ClassVar[bool]
    """Whether it draws nothing but the ladder's own levels, as a network conditional on them needs."""
    searched: ClassVar[tuple[str, ...]]
    """Those of its settings that the noise search tries; none: the search tries ladders instead."""

    def sigmas(self, rng: np.random.Generator, count: int, ladder: Tensor) -> Tensor:
        """Noise standard deviations of `count` examples, (count,) float32, for a ladder (L,), descending."""
        ...

    def weight(self, sigma: Tensor) -> Tensor:
        """The factor of each example's denoising score matching loss, of the shape of sigma, (B,)."""
        ...


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
