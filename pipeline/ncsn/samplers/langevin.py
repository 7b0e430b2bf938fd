"""Annealed Langevin dynamics, the sampler of NCSN and NCSNv2, and Langevin dynamics at one level.

References:
    Y. Song, S. Ermon, arXiv 1907.05600, algorithm 1; arXiv 2006.09011, algorithm 1 and section 4.1.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from .. import noise
from ..errors import UserError
from ..kinds import kind_of
from ..ladder import Ladder, check_ladder
from ..rng import Noise
from ..sampler import Sampler, SamplerSettings, Tried
from ..score import Score

Convention = Literal["paper", "released"]
"""How a step size alpha is applied: 'paper' is x += alpha/2 score + sqrt(alpha) z (NCSN, algorithm 1),
'released' x += alpha score + sqrt(2 alpha) z (the published image code and NCSNv2), the same as 'paper'
with twice the step."""


def langevin(
    score: Score,
    x: Tensor,
    rng: Noise,
    *,
    sigma: Tensor,
    step_size: float,
    steps: int,
    convention: Convention = "released",
) -> Tensor:
    """Langevin dynamics at one noise level.

    Args:
        score: the score model.
        x: the start, (B, *shape); it is not changed.
        rng: draws z for these B samples.
        sigma: the level, handed to the score, () or (B,).
        step_size: alpha, in squared units of x.
        steps: how many, one evaluation each.
        convention: see `Convention`.

    Returns:
        (B, *shape), unclamped.

    Raises:
        UserError: a step size that is not positive, or a negative number of steps.
    """
    drift, diffusion = _coefficients(step_size, convention)
    if steps < 0:
        raise UserError(f"steps is {steps}: it must not be negative.")
    with torch.no_grad():
        for _ in range(steps):
            x = x.add(score(x, sigma), alpha=drift).add_(rng.normal(), alpha=diffusion)
    return x


@dataclass(frozen=True)
class Langevin(SamplerSettings):
    """Annealed Langevin dynamics on the levels of the training (NCSN, algorithm 1)."""

    step_size: float | Literal["analytic"]
    """eps, the step at the last level, in squared units of x (the releases call it step_size): level i takes
    steps of alpha_i = step_size sigma_i^2 / sigma_L^2. 'analytic': technique 4 of NCSNv2 on the ladder."""
    steps_per_level: int
    """T, at least 1; one evaluation each."""
    convention: Convention = "released"
    """See `Convention`."""

    on_trained_levels: ClassVar[bool] = True
    searched: ClassVar[Mapping[str, Tried]] = {"steps_per_level": Tried(1), "step_size_ratio": Tried(1.0)}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps_per_level < 1:
            raise UserError(f"steps_per_level is {self.steps_per_level}: it must be at least 1.")
        if self.step_size != "analytic":
            _coefficients(self.step_size, self.convention)

    def levels(self, score: Score, sigmas: Tensor, rng: Noise, *, start: Tensor | None = None) -> Iterator[Tensor]:
        """Annealed Langevin dynamics, one level at a time; see `SamplerSettings.levels`.

        Args:
            score, sigmas, rng: see there.
            start: None draws it from U[0, 1), as both papers do.

        Raises:
            UserError: a ladder that `check_ladder` refuses.
        """
        check_ladder(sigmas)
        step_size, x = self._step(sigmas), rng.uniform() if start is None else start
        for sigma in sigmas.to(x.device):
            alpha = step_size * (float(sigma) / float(sigmas[-1])) ** 2
            x = langevin(
                score,
                x,
                rng,
                sigma=sigma,
                step_size=alpha,
                steps=self.steps_per_level,
                convention=self.convention,
            )
            yield x

    def on(self, trained: Ladder) -> Sampler:
        """This sampler on the very ladder of the training, its step as a number."""
        settled = replace(self, step_size=self._step(trained.sigmas()))
        return Sampler(kind_of(self), trained, settled.options(), self.start)

    def _step(self, sigmas: Tensor) -> float:
        if self.step_size == "analytic":
            # Technique 4 is of the convention 'released'; twice its step is the same dynamics in 'paper'.
            return noise.step_size(sigmas, self.steps_per_level) * (2 if self.convention == "paper" else 1)
        return self.step_size

    @classmethod
    def theory(cls, trained: Ladder, max_nfe: int) -> dict[str, float]:
        """Technique 4 on the trained ladder, with as many steps a level as the budget allows."""
        steps = max(1, (max_nfe - 1) // trained.num_levels)
        used = min(steps * trained.num_levels + 1, max_nfe)
        return {"step_size_ratio": 1.0, "steps_per_level": steps, "budget_share": used / max_nfe}

    @classmethod
    def proposed(cls, ladder: Ladder, values: Mapping[str, Any], budget: int) -> Sampler:
        """A multiple of the analytic step on the proposal's own ladder; steps that leave two levels room."""
        steps = min(values["steps_per_level"], (budget - 1) // 2)
        return Sampler.analytic(ladder, steps, values["step_size_ratio"])


def _coefficients(step_size: float, convention: Convention) -> tuple[float, float]:
    if not (step_size > 0 and math.isfinite(step_size)):
        raise UserError(f"The Langevin step (`step_size`) is {step_size}: it must be a positive number.")
    if convention not in ("paper", "released"):
        raise UserError(f"convention is {convention!r}: it must be 'paper' or 'released'.")
    alpha = step_size / 2 if convention == "paper" else step_size
    return alpha, math.sqrt(2 * alpha)
