"""Langevin dynamics, plain and annealed.

References:
    Y. Song, S. Ermon, arXiv 1907.05600, algorithm 1; arXiv 2006.09011, algorithm 1 and section 4.1.
"""

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from ..errors import UserError
from ..score import Score, denoise
from .rng import Noise
from .sigmas import check_ladder, last

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


def annealed_langevin_levels(
    score: Score,
    sigmas: Tensor,
    rng: Noise,
    *,
    step_lr: float,
    steps_per_level: int,
    convention: Convention = "released",
    start: Tensor | None = None,
) -> Iterator[Tensor]:
    """Annealed Langevin dynamics, one level at a time.

    Level i takes steps of alpha_i = step_lr sigma_i^2 / sigma_L^2.

    Args:
        score: the score model.
        sigmas: the ladder, (L,), descending.
        rng: draws the start and z for these B samples.
        step_lr: the step eps at the last level, in squared units of x.
        steps_per_level: T, at least 1.
        convention: see `Convention`.
        start: (B, *shape); None draws it from U[0, 1), as both papers do.

    Yields:
        L times: the samples after a level, (B, *shape), unclamped; each a tensor of its own.

    Raises:
        UserError: a ladder that `check_ladder` refuses, or a step or a number of steps that is not positive.
    """
    check_ladder(sigmas)
    if steps_per_level < 1:
        raise UserError(f"steps_per_level is {steps_per_level}: it must be at least 1.")
    _coefficients(step_lr, convention)
    x = rng.uniform() if start is None else start
    for sigma in sigmas.to(x.device):
        step_size = step_lr * (float(sigma) / float(sigmas[-1])) ** 2
        x = langevin(
            score, x, rng, sigma=sigma, step_size=step_size, steps=steps_per_level, convention=convention
        )
        yield x


def annealed_langevin(
    score: Score,
    sigmas: Tensor,
    rng: Noise,
    *,
    step_lr: float,
    steps_per_level: int,
    denoise: bool,
    convention: Convention = "released",
    start: Tensor | None = None,
) -> Tensor:
    """Samples by annealed Langevin dynamics, with or without the last denoising step.

    Args:
        denoise: end with x + sigma_L^2 score(x, sigma_L), one more evaluation (NCSNv2, section 4.1).
        score, sigmas, rng, step_lr, steps_per_level, convention, start: see `annealed_langevin_levels`.

    Returns:
        (B, *shape), unclamped; L * T evaluations of the score, and one for denoising.

    Raises:
        UserError: see `annealed_langevin_levels`.
    """
    x = last(
        annealed_langevin_levels(
            score,
            sigmas,
            rng,
            step_lr=step_lr,
            steps_per_level=steps_per_level,
            convention=convention,
            start=start,
        )
    )
    return denoised(score, x, sigmas) if denoise else x


def denoised(score: Score, x: Tensor, sigmas: Tensor) -> Tensor:
    """The last denoising step on finished samples: both kinds of one run for one more evaluation.

    Args:
        score: the score model.
        x: the end of annealed Langevin dynamics, (B, *shape).
        sigmas: its ladder, (L,).

    Returns:
        x + sigma_L^2 score(x, sigma_L), (B, *shape).
    """
    with torch.no_grad():
        return denoise(score, x, sigmas[-1].to(x.device))


def _coefficients(step_size: float, convention: Convention) -> tuple[float, float]:
    if not (step_size > 0 and math.isfinite(step_size)):
        raise UserError(f"The Langevin step (`step_lr`) is {step_size}: it must be a positive number.")
    if convention not in ("paper", "released"):
        raise UserError(f"convention is {convention!r}: it must be 'paper' or 'released'.")
    alpha = step_size / 2 if convention == "paper" else step_size
    return alpha, math.sqrt(2 * alpha)
