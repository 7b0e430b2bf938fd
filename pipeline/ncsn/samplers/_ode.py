"""Steps of the probability-flow ODE that `euler`, `heun` and `stochastic_heun` share.

In sigma the ODE is dx/dsigma = -sigma score(x, sigma). Its solutions carry the law p_sigma down from level
to level without noise: the only draw is the start.

References:
    T. Karras, M. Aittala, T. Aila, S. Laine, "Elucidating the Design Space of Diffusion-Based Generative
    Models" (EDM), arXiv 2206.00364, equation 1, algorithms 1 and 2.
    Y. Song et al., arXiv 2011.13456, section 4.3.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from ..prior import begin
from ..rng import Noise
from ..sampler import Tried
from ..score import Score, match

Step = Callable[[Score, Tensor, Tensor, Tensor], Tensor]
"""From the score, x, (B, *shape), its level and the level below to x at the latter."""

RHO = Tried(7.0)
"""EDM's exponent of the levels."""


def ode_levels(step: Step, score: Score, sigmas: Tensor, rng: Noise, start: Tensor | None) -> Iterator[Tensor]:
    """L states, the start first, each at its level of the ladder: (B, *shape), unclamped."""
    x = begin(sigmas, rng, start)
    yield x
    for sigma, below in pairwise(sigmas.to(x.device)):
        x = step(score, x, sigma, below)
        yield x


@torch.no_grad()
def euler_step(score: Score, x: Tensor, sigma: Tensor, below: Tensor) -> Tensor:
    """Euler's step: one evaluation, order 1."""
    return x + (below - sigma) * _slope(score, x, sigma)


@torch.no_grad()
def heun_step(score: Score, x: Tensor, sigma: Tensor, below: Tensor) -> Tensor:
    """Heun's step, the trapezoidal rule after a step of Euler's: two evaluations, order 2."""
    slope = _slope(score, x, sigma)
    end = x + (below - sigma) * slope
    return x + (below - sigma) / 2 * (slope + _slope(score, end, below))


def _slope(score: Score, x: Tensor, sigma: Tensor) -> Tensor:
    return -match(sigma, x) * score(x, sigma)
