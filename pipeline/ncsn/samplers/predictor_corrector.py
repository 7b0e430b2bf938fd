"""Predictor-corrector sampling of the variance-exploding SDE.

References:
    Y. Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations",
    arXiv 2011.13456: algorithms 2 and 4, appendices E (reverse diffusion), F (ancestral) and G.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..errors import UserError
from ..ladder import Ladder
from ..prior import begin
from ..rng import Noise
from ..sampler import Sampler, SamplerSettings, Tried
from ..score import Score, match
from .langevin import langevin

Predictor = Literal["reverse_diffusion", "ancestral", "none"]
"""How x goes from sigma_i to sigma_{i+1}: x += d score(x, sigma_i) + std z with d = sigma_i^2 - sigma_{i+1}^2
and std = sqrt(d) ('reverse_diffusion') or sqrt(d) sigma_{i+1} / sigma_i ('ancestral', exact around data
that is a point); 'none' leaves it where it is."""

Corrector = Literal["langevin", "annealed"]
"""The step a of x += a score + sqrt(2 a) z: 'langevin', of algorithm 4, is 2 (snr |z| / |score|)^2,
'annealed' is 2 (snr sigma)^2, annealed Langevin dynamics with step_size = 2 (snr sigma_L)^2.

The paper takes |z| and |score| as means over the batch. Here they are each sample's own, so that sample k
does not depend on its batch. A step that depends on x biases the law, however small it is: on N(0, sigma^2 I)
in D dimensions the stationary E[1 / |x|^2] is 1 / ((1 + snr^2) (D + 2) sigma^2), and so the variance about
(1 + snr^2) (1 + 4 / D) sigma^2: 4 / D is 0.1 % for D = 3,072, 6 % for 64. In few dimensions use 'annealed',
whose variance there is sigma^2 / (1 - snr^2)."""


@dataclass(frozen=True)
class PredictorCorrector(SamplerSettings):
    """Predictor-corrector sampling of the variance-exploding SDE.

    At each level the corrector takes its steps, then the predictor goes to the next level: the released
    order, in which the last prediction, from sigma_L to 0, is the denoising step. The last samples have noise
    sigma_L. On L levels it costs L - 1 evaluations for a predictor, L * corrector_steps for a corrector.
    """

    num_levels: int
    predictor: Predictor
    """See `Predictor`; one evaluation for all but the last level, none for 'none'."""
    corrector_steps: int
    """At each level, one evaluation each; 0 is the predictor alone."""
    snr: float
    """The corrector's signal-to-noise ratio r, between 0 and 1 (the paper's CIFAR-10: 0.16); not used
    without corrector steps."""
    corrector: Corrector = "langevin"
    """See `Corrector`."""
    rho: float | None = None
    """Of Karras's spacing; None: geometric levels."""

    searched: ClassVar[Mapping[str, Tried]] = {"steps_per_level": Tried(2), "snr": Tried(0.16)}

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.predictor, self.corrector, self.corrector_steps, self.snr)

    @torch.no_grad()
    def levels(self, score: Score, sigmas: Tensor, rng: Noise, *, start: Tensor | None = None) -> Iterator[Tensor]:
        """Predictor-corrector sampling, one level at a time; see `SamplerSettings.levels`.

        Args:
            score, rng: see there.
            sigmas: sigma(t) at the L times of the discretised SDE.
            start: None draws it from N(0.5, sigma_1^2 I); the paper's pixels lie about 0.

        Raises:
            UserError: a ladder that `check_ladder` refuses.
        """
        x = begin(sigmas, rng, start)
        sigmas = sigmas.to(x.device)
        for level, sigma in enumerate(sigmas):
            if level and self.predictor != "none":
                x = _predict(score, x, rng, sigmas[level - 1], sigma, self.predictor)
            for _ in range(self.corrector_steps):
                x = _correct(score, x, rng, sigma, self.snr, self.corrector)
            yield x

    @classmethod
    def theory(cls, trained: Ladder, max_nfe: int) -> dict[str, float]:
        """One corrector step for each prediction, at the paper's snr, where the budget allows it."""
        return {**super().theory(trained, max_nfe), "steps_per_level": min(2, (max_nfe - 1) // 2)}

    @classmethod
    def proposed(cls, ladder: Ladder, values: Mapping[str, Any], budget: int) -> Sampler:
        """The evaluations of a level, the predictor's among them; without a corrector snr does not matter."""
        correctors = min(values["steps_per_level"], budget // 2) - 1
        snr = values["snr"] if correctors else 0.0
        made = cls(ladder.num_levels, "ancestral", correctors, snr, corrector="annealed")
        return replace(made.on(ladder), start="data")


def _predict(score: Score, x: Tensor, rng: Noise, sigma: Tensor, following: Tensor, predictor: Predictor) -> Tensor:
    variance = float(sigma) ** 2 - float(following) ** 2
    std = math.sqrt(variance) * (float(following / sigma) if predictor == "ancestral" else 1.0)
    return x.add(score(x, sigma), alpha=variance).add_(rng.normal(), alpha=std)


def _correct(score: Score, x: Tensor, rng: Noise, sigma: Tensor, snr: float, corrector: Corrector) -> Tensor:
    if corrector == "annealed":
        return langevin(score, x, rng, sigma=sigma, step_size=2 * (snr * float(sigma)) ** 2, steps=1)
    direction, noise = score(x, sigma), rng.normal()
    ratio = noise.flatten(1).norm(dim=1) / direction.flatten(1).norm(dim=1)
    step = match(2 * (snr * ratio) ** 2, x)
    return x + step * direction + (2 * step).sqrt() * noise


def _check(predictor: str, corrector: str, corrector_steps: int, snr: float) -> None:
    if predictor not in ("reverse_diffusion", "ancestral", "none"):
        raise UserError(f"predictor is {predictor!r}: it must be 'reverse_diffusion', 'ancestral' or 'none'.")
    if corrector not in ("langevin", "annealed"):
        raise UserError(f"corrector is {corrector!r}: it must be 'langevin' or 'annealed'.")
    if corrector_steps < 0 or (predictor == "none" and corrector_steps == 0):
        raise UserError(f"corrector_steps is {corrector_steps}: it must not be negative, nor 0 without a predictor.")
    if corrector_steps and not 0 < snr < 1:
        raise UserError(f"snr is {snr}: it must be between 0 and 1, for a step 2 (snr sigma)^2 to be stable.")
