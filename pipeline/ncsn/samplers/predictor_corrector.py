"""Predictor-corrector sampling of the variance-exploding SDE.

References:
    Y. Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations",
    arXiv 2011.13456: algorithms 2 and 4, appendices E (reverse diffusion), F (ancestral) and G.
"""

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from ..errors import UserError
from ..score import Score, match
from .langevin import denoised, langevin
from .rng import Noise
from .sigmas import check_ladder, last

Predictor = Literal["reverse_diffusion", "ancestral", "none"]
"""How x goes from sigma_i to sigma_{i+1}: x += d score(x, sigma_i) + std z with d = sigma_i^2 - sigma_{i+1}^2
and std = sqrt(d) ('reverse_diffusion') or sqrt(d) sigma_{i+1} / sigma_i ('ancestral', exact around data
that is a point); 'none' leaves it where it is."""

Corrector = Literal["langevin", "annealed"]
"""The step a of x += a score + sqrt(2 a) z: 'langevin', of algorithm 4, is 2 (snr |z| / |score|)^2,
'annealed' is 2 (snr sigma)^2, annealed Langevin dynamics with step_lr = 2 (snr sigma_L)^2.

The paper takes |z| and |score| as means over the batch. Here they are each sample's own, so that sample k
does not depend on its batch. A step that depends on x biases the law, however small it is: on N(0, sigma^2 I)
in D dimensions the stationary E[1 / |x|^2] is 1 / ((1 + snr^2) (D + 2) sigma^2), and so the variance about
(1 + snr^2) (1 + 4 / D) sigma^2: 4 / D is 0.1 % for D = 3,072, 6 % for 64. In few dimensions use 'annealed',
whose variance there is sigma^2 / (1 - snr^2)."""


@torch.no_grad()
def predictor_corrector_levels(
    score: Score,
    sigmas: Tensor,
    rng: Noise,
    *,
    predictor: Predictor,
    corrector_steps: int,
    snr: float,
    corrector: Corrector = "langevin",
    start: Tensor | None = None,
) -> Iterator[Tensor]:
    """Predictor-corrector sampling, one level at a time.

    At each level the corrector takes its steps, then the predictor goes to the next level: the released
    order, in which the last prediction, from sigma_L to 0, is the denoising step. It is left to
    `predictor_corrector`, so that what is yielded last has noise sigma_L.

    Args:
        score: the score model.
        sigmas: the ladder, (L,), descending: sigma(t) at the L times of the discretised SDE.
        rng: draws the start and the noise for these B samples.
        predictor: see `Predictor`; one evaluation for all but the last level, none for 'none'.
        corrector_steps: at each level, one evaluation each; 0 is the predictor alone.
        snr: the corrector's signal-to-noise ratio r, between 0 and 1 (the paper's CIFAR-10: 0.16);
            without corrector steps it does not matter.
        corrector: see `Corrector`.
        start: (B, *shape); None draws it from N(0, sigma_1^2 I), as the paper does.

    Yields:
        L times: the samples at a level, (B, *shape), unclamped; each a tensor of its own.

    Raises:
        UserError: a ladder that `check_ladder` refuses, an unknown predictor or corrector, a negative number
            of steps, or a ratio out of range.
    """
    check_ladder(sigmas)
    _check(predictor, corrector, corrector_steps, snr)
    x = float(sigmas[0]) * rng.normal() if start is None else start
    sigmas = sigmas.to(x.device)
    for level, sigma in enumerate(sigmas):
        if level and predictor != "none":
            x = _predict(score, x, rng, sigmas[level - 1], sigma, predictor)
        for _ in range(corrector_steps):
            x = _correct(score, x, rng, sigma, snr, corrector)
        yield x


def predictor_corrector(
    score: Score,
    sigmas: Tensor,
    rng: Noise,
    *,
    predictor: Predictor,
    corrector_steps: int,
    snr: float,
    denoise: bool,
    corrector: Corrector = "langevin",
    start: Tensor | None = None,
) -> Tensor:
    """Samples by predictor-corrector sampling, with or without the last denoising step.

    Args:
        denoise: end with x + sigma_L^2 score(x, sigma_L), one more evaluation, as the paper does.
        score, sigmas, rng, predictor, corrector_steps, snr, corrector, start: see
            `predictor_corrector_levels`.

    Returns:
        (B, *shape), unclamped; L - 1 evaluations of the score for a predictor, L * corrector_steps for the
        corrector, and one for denoising: L * (corrector_steps + 1), as in the paper, with all three.

    Raises:
        UserError: see `predictor_corrector_levels`.
    """
    levels = predictor_corrector_levels(
        score,
        sigmas,
        rng,
        predictor=predictor,
        corrector_steps=corrector_steps,
        snr=snr,
        corrector=corrector,
        start=start,
    )
    x = last(levels)
    return denoised(score, x, sigmas) if denoise else x


def _predict(
    score: Score, x: Tensor, rng: Noise, sigma: Tensor, following: Tensor, predictor: Predictor
) -> Tensor:
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
        raise UserError(
            f"corrector_steps is {corrector_steps}: it must not be negative, nor 0 without a predictor."
        )
    if corrector_steps and not 0 < snr < 1:
        raise UserError(f"snr is {snr}: it must be between 0 and 1, for a step 2 (snr sigma)^2 to be stable.")
