"""Heun's method with churn: the stochastic sampler of EDM (arXiv 2206.00364, algorithm 2)."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import Tensor

from ..errors import UserError
from ..prior import begin
from ..rng import Noise
from ..sampler import SamplerSettings, Tried
from ..score import Score
from ._ode import RHO, heun_step


@dataclass(frozen=True)
class StochasticHeun(SamplerSettings):
    """The probability-flow ODE by Heun's method, each step of which begins by adding noise.

    From sigma x goes up to sigma_hat = (1 + gamma) sigma, where gamma = min(churn / L, sqrt(2) - 1). The
    score is evaluated there, so it must be one for any sigma; a network conditional on its levels is not.
    """

    num_levels: int
    churn: float
    """S_churn of the paper, no unit; 0 is the plain ODE."""
    churn_min: float = 0.0
    """S_min, lowest sigma with churn, in the unit of x: half the published value for pixels in [0, 1]."""
    churn_max: float = math.inf
    """S_max, the highest one, likewise."""
    churn_noise: float = 1.0
    """S_noise, standard deviation of the noise added, no unit."""
    rho: float | None = None
    """Of Karras's spacing, 7 in EDM; None: geometric levels."""

    karras: ClassVar[bool] = True
    searched: ClassVar[Mapping[str, Tried]] = {"churn": Tried(30.0), "rho": RHO}

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("churn", "churn_noise"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise UserError(f"{name} is {getattr(self, name)}: it must not be negative.")
        if not 0 <= self.churn_min <= self.churn_max:
            raise UserError(f"churn_min is {self.churn_min}: it must be between 0 and churn_max, {self.churn_max}.")

    def levels(self, score: Score, sigmas: Tensor, rng: Noise, *, start: Tensor | None = None) -> Iterator[Tensor]:
        """The start, then the samples at each further level; see `SamplerSettings.levels`.

        Args:
            score, sigmas, rng: see there.
            start: None draws it from N(0.5, sigma_1^2 I).

        Raises:
            UserError: a ladder that `check_ladder` refuses.
        """
        x = begin(sigmas, rng, start)
        yield x
        gammas = self._gammas(sigmas)
        for gamma, (sigma, below) in zip(gammas, pairwise(sigmas.to(x.device)), strict=False):
            x, raised = self._raised(x, sigma, rng, gamma)
            x = heun_step(score, x, raised, below)
            yield x

    def _gammas(self, sigmas: Tensor) -> list[float]:
        gamma = min(self.churn / len(sigmas), math.sqrt(2) - 1)
        inside = (sigmas >= self.churn_min) & (sigmas <= self.churn_max)
        return [gamma if hit else 0.0 for hit in inside.tolist()]

    def _raised(self, x: Tensor, sigma: Tensor, rng: Noise, gamma: float) -> tuple[Tensor, Tensor]:
        """x with noise added and the level it is then at, (1 + gamma) sigma (algorithm 2, lines 4 to 6)."""
        if gamma == 0:  # no draw, so that without churn the samples are those of `heun`
            return x, sigma
        spread = self.churn_noise * math.sqrt((1 + gamma) ** 2 - 1) * sigma
        return x + spread * rng.normal(), (1 + gamma) * sigma
