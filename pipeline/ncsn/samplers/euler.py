"""Euler's method on the probability-flow ODE: order 1 for one evaluation a step (arXiv 2011.13456)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..rng import Noise
from ..sampler import SamplerSettings, Tried
from ..score import Score
from ._ode import RHO, euler_step, ode_levels


@dataclass(frozen=True)
class Euler(SamplerSettings):
    """The probability-flow ODE by Euler's method: L evaluations on L levels, the last denoising included."""

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
        return ode_levels(euler_step, score, sigmas, rng, start)
