"""Euler's method on the probability-flow ODE: order 1 for one evaluation a step (arXiv 2011.13456)."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from ..score import Score
from ._ode import ODESolver, euler_step, stepped


@dataclass(frozen=True)
class Euler(ODESolver):
    """The probability-flow ODE by Euler's method: L evaluations on L levels, the last denoising included."""

    def solution(self, score: Score, x: Tensor, sigmas: Tensor) -> Iterator[Tensor]:
        """See `ODESolver.solution`."""
        return stepped(euler_step, score, x, sigmas)
