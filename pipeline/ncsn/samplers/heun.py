"""Heun's method on the probability-flow ODE: EDM's deterministic sampler (arXiv 2206.00364, algorithm 1)."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from ..score import Score
from ._ode import ODESolver, heun_step, stepped


@dataclass(frozen=True)
class Heun(ODESolver):
    """The probability-flow ODE by Heun's method: 2 L - 1 evaluations on L levels, the denoising included."""

    def solution(self, score: Score, x: Tensor, sigmas: Tensor) -> Iterator[Tensor]:
        """See `ODESolver.solution`."""
        return stepped(heun_step, score, x, sigmas)
