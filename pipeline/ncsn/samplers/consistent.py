"""Consistent annealed sampling: annealed Langevin dynamics whose noise follows the ladder exactly.

References:
    A. Jolicoeur-Martineau et al., "Adversarial score matching and improved sampling for image generation",
    arXiv 2009.05475, the algorithm of consistent annealed sampling.
"""

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import UserError
from ..score import Score
from .langevin import denoised
from .rng import Noise
from .sigmas import check_ladder, last


@torch.no_grad()
def consistent_levels(
    score: Score, sigmas: Tensor, rng: Noise, *, step_lr: float, start: Tensor | None = None
) -> Iterator[Tensor]:
    """Consistent annealed sampling, one level at a time.

    With eta = step_lr / sigma_L^2, level i moves x by eta sigma_i^2 score(x, sigma_i) and then adds noise of
    standard deviation sigma_{i+1} beta, beta^2 = 1 - ((1 - eta) / gamma)^2, gamma = sigma_{i+1} / sigma_i.
    Around data that is a point, x then has noise of exactly sigma_{i+1}. The last level adds none, and
    leaves (1 - eta) sigma_L there. Data of a spread keep about 1 - eta / 2 of their variance on a fine
    ladder, so that eta near its lower bound is the most faithful. One evaluation a level.

    Args:
        score: the score model.
        sigmas: the ladder, (L,), descending; gamma is taken between each two levels, so that a ladder
            need not be geometric.
        rng: draws the start and the noise for these B samples.
        step_lr: eps, in squared units of x, strictly between sigma_L^2 (1 - gamma) and
            sigma_L^2 (1 + gamma): gamma the smallest in the ladder.
        start: (B, *shape); None draws it from N(0, sigma_1^2 I), whose noise is that of the first level.

    Yields:
        L times: the samples after a level, (B, *shape), unclamped; each a tensor of its own.

    Raises:
        UserError: a ladder that `check_ladder` refuses, or a step outside its bounds, which are named.
    """
    check_ladder(sigmas)
    ladder: list[float] = sigmas.tolist()
    eta = step_lr / ladder[-1] ** 2
    noise_stds = _noise_stds(ladder, step_lr)
    x = ladder[0] * rng.normal() if start is None else start
    for sigma, noise_std in zip(sigmas.to(x.device), [*noise_stds, None], strict=True):
        x = x.add(score(x, sigma), alpha=eta * float(sigma) ** 2)
        if noise_std is not None:
            x.add_(rng.normal(), alpha=noise_std)
        yield x


def consistent(
    score: Score,
    sigmas: Tensor,
    rng: Noise,
    *,
    step_lr: float,
    denoise: bool,
    start: Tensor | None = None,
) -> Tensor:
    """Samples by consistent annealed sampling, with or without the last denoising step.

    Args:
        denoise: end with x + sigma_L^2 score(x, sigma_L), one more evaluation.
        score, sigmas, rng, step_lr, start: see `consistent_levels`.

    Returns:
        (B, *shape), unclamped; L evaluations of the score, and one for denoising.

    Raises:
        UserError: see `consistent_levels`.
    """
    x = last(consistent_levels(score, sigmas, rng, step_lr=step_lr, start=start))
    return denoised(score, x, sigmas) if denoise else x


def _noise_stds(ladder: list[float], step_lr: float) -> list[float]:
    """sigma_{i+1} beta, that is sqrt(sigma_{i+1}^2 - (1 - eta)^2 sigma_i^2), for each two levels: L - 1."""
    ratio, floor = min((b / a for a, b in pairwise(ladder)), default=1.0), ladder[-1] ** 2
    if not floor * (1 - ratio) < step_lr < floor * (1 + ratio):
        raise UserError(
            f"step_lr is {step_lr}: consistent sampling needs it strictly between "
            f"{floor * (1 - ratio):.4g} and {floor * (1 + ratio):.4g}, that is sigma_L^2 (1 -/+ gamma) with "
            f"sigma_L {ladder[-1]:.4g} and gamma {ratio:.4g}; more levels widen the bounds."
        )
    kept = 1 - step_lr / floor
    return [math.sqrt(b**2 - (kept * a) ** 2) for a, b in pairwise(ladder)]
