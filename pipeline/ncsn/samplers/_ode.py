"""Probability-flow ODE: what its solvers `euler`, `heun` and `dpm_solver` share, and the steps of some.

In sigma the ODE is dx/dsigma = -sigma score(x, sigma). Its solutions carry the law p_sigma down from level
to level without noise: the only draw is the start.

References:
    T. Karras, M. Aittala, T. Aila, S. Laine, "Elucidating the Design Space of Diffusion-Based Generative
    Models" (EDM), arXiv 2206.00364, equation 1, algorithms 1 and 2.
    Y. Song et al., arXiv 2011.13456, section 4.3.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from ..prior import begin
from ..rng import Noise
from ..sampler import SamplerSettings, Tried
from ..score import Score, match

Step = Callable[[Score, Tensor, Tensor, Tensor], Tensor]
"""From the score, x, (B, *shape), its level and the level below to x at the latter."""

RHO = Tried(7.0)
"""EDM's exponent of the levels."""


@dataclass(frozen=True)
class ODESolver(SamplerSettings):
    """Base class of the ODE's solvers: their settings, and the start; a kind adds `solution`."""

    num_levels: int
    rho: float | None = None
    """Of Karras's spacing, 7 in EDM; None: geometric levels."""

    karras: ClassVar[bool] = True
    searched: ClassVar[Mapping[str, Tried]] = {"rho": RHO}

    def levels(self, score: Score, sigmas: Tensor, rng: Noise, *, start: Tensor | None = None) -> Iterator[Tensor]:
        """The start, then the solution at each further level; see `SamplerSettings.levels`.

        Args:
            score, sigmas, rng: see there.
            start: None draws it from N(0.5, sigma_1^2 I).

        Raises:
            UserError: a ladder that `check_ladder` refuses.
        """
        x = begin(sigmas, rng, start)
        yield x
        yield from self.solution(score, x, sigmas.to(x.device))

    @abstractmethod
    def solution(self, score: Score, x: Tensor, sigmas: Tensor) -> Iterator[Tensor]:
        """The states at the levels below the first, from x, (B, *shape), at the first of `sigmas`, (L,)."""


def stepped(step: Step, score: Score, x: Tensor, sigmas: Tensor) -> Iterator[Tensor]:
    """The states that a step gives from level to level."""
    for sigma, below in pairwise(sigmas):
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
