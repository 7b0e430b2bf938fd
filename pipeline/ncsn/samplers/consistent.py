"""Consistent annealed sampling: annealed Langevin dynamics whose noise follows the ladder exactly.

References:
    A. Jolicoeur-Martineau et al., "Adversarial score matching and improved sampling for image generation",
    arXiv 2009.05475, the algorithm of consistent annealed sampling.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..errors import UserError
from ..ladder import Ladder
from ..prior import begin
from ..rng import Noise
from ..sampler import Sampler, SamplerSettings, Tried
from ..score import Score


@dataclass(frozen=True)
class Consistent(SamplerSettings):
    """Consistent annealed sampling, one evaluation a level.

    With eta = step_size / sigma_L^2, level i moves x by eta sigma_i^2 score(x, sigma_i), then adds noise of
    standard deviation sigma_{i+1} beta, beta^2 = 1 - ((1 - eta) / gamma)^2, gamma = sigma_{i+1} / sigma_i.
    Around data that is a point, x then has noise of exactly sigma_{i+1}. The last level adds none, and
    leaves (1 - eta) sigma_L there. Data of a spread keep about 1 - eta / 2 of their variance on a fine
    ladder, so that eta near its lower bound is the most faithful.
    """

    num_levels: int
    step_size: float | Literal["analytic"]
    """eps, in squared units of x, strictly between sigma_L^2 (1 - gamma) and sigma_L^2 (1 + gamma): gamma the
    smallest in the ladder. 'analytic': sigma_L^2 (1 - gamma^2), whose levels keep the law exactly around
    data that is a point; between the lower bound and sigma_L^2."""
    rho: float | None = None
    """Of Karras's spacing; None: geometric levels."""

    searched: ClassVar[Mapping[str, Tried]] = {"step_size_ratio": Tried(1.0)}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step_size != "analytic" and not (self.step_size > 0 and math.isfinite(self.step_size)):
            raise UserError(f"step_size is {self.step_size}: it must be a positive number, or 'analytic'.")

    @torch.no_grad()
    def levels(self, score: Score, sigmas: Tensor, rng: Noise, *, start: Tensor | None = None) -> Iterator[Tensor]:
        """Consistent annealed sampling, one level at a time; see `SamplerSettings.levels`.

        Args:
            score, rng: see there.
            sigmas: gamma is taken between each two levels, so that a ladder need not be geometric.
            start: None draws it from N(0.5, sigma_1^2 I), whose noise is that of the first level.

        Raises:
            UserError: a ladder that `check_ladder` refuses, or a step outside its bounds, which are named.
        """
        x = begin(sigmas, rng, start)
        ladder: list[float] = sigmas.tolist()
        step_size = self._step(ladder)
        eta = step_size / ladder[-1] ** 2
        noise_stds = _noise_stds(ladder, step_size)
        for sigma, noise_std in zip(sigmas.to(x.device), [*noise_stds, None], strict=True):
            x = x.add(score(x, sigma), alpha=eta * float(sigma) ** 2)
            if noise_std is not None:
                x.add_(rng.normal(), alpha=noise_std)
            yield x

    def on(self, trained: Ladder) -> Sampler:
        """See `SamplerSettings.on`; the step becomes a number."""
        settled = replace(self, step_size=self._step(self.ladder(trained).sigmas().tolist()))
        return SamplerSettings.on(settled, trained)

    def _step(self, ladder: list[float]) -> float:
        if self.step_size == "analytic":
            return ladder[-1] ** 2 * (1 - (ladder[1] / ladder[0]) ** 2)
        return self.step_size

    @classmethod
    def proposed(cls, ladder: Ladder, values: Mapping[str, Any], budget: int) -> Sampler:
        """A multiple of the analytic step, within the bounds that consistent sampling has."""
        sigmas = ladder.sigmas().tolist()
        gamma, unit = sigmas[1] / sigmas[0], sigmas[-1] ** 2
        inside = (1 - gamma) * 1.001, (1 + gamma) * 0.999
        step = float(unit * min(max(values["step_size_ratio"] * (1 - gamma**2), inside[0]), inside[1]))
        return replace(cls(ladder.num_levels, step).on(ladder), start="data")


def _noise_stds(ladder: list[float], step_size: float) -> list[float]:
    """sigma_{i+1} beta, that is sqrt(sigma_{i+1}^2 - (1 - eta)^2 sigma_i^2), for each two levels: L - 1."""
    ratio, floor = min((b / a for a, b in pairwise(ladder)), default=1.0), ladder[-1] ** 2
    if not floor * (1 - ratio) < step_size < floor * (1 + ratio):
        raise UserError(
            f"step_size is {step_size}: consistent sampling needs it strictly between "
            f"{floor * (1 - ratio):.4g} and {floor * (1 + ratio):.4g}, that is sigma_L^2 (1 -/+ gamma) with "
            f"sigma_L {ladder[-1]:.4g} and gamma {ratio:.4g}; more levels widen the bounds."
        )
    kept = 1 - step_size / floor
    return [math.sqrt(b**2 - (kept * a) ** 2) for a, b in pairwise(ladder)]
