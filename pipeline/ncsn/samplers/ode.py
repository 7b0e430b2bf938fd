"""The probability-flow ODE by Euler and Heun, and EDM's stochastic sampler on top of it.

In sigma the ODE is dx/dsigma = -sigma score(x, sigma). Its solutions carry the law p_sigma down from level
to level without noise: the only draw is the start.

References:
    T. Karras, M. Aittala, T. Aila, S. Laine, "Elucidating the Design Space of Diffusion-Based Generative
    Models" (EDM), arXiv 2206.00364, equation 1, algorithms 1 and 2.
    Y. Song et al., arXiv 2011.13456, section 4.3.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from ..errors import UserError
from ..score import Score, denoise, match
from .rng import Noise
from .sigmas import check_ladder, last

Method = Literal["euler", "heun"]
"""How a step is taken: 'euler' has one evaluation and order 1, 'heun' two and order 2."""

PRIOR_MEAN = 0.5
"""The mean of pixels in [0, 1] at sigma_1, before any is seen. EDM's pixels lie in [-1, 1] and start from
sigma_1 z; here that is 0.5 + sigma_1 z, with sigma_1 half of EDM's. At NCSN's sigma_1 = 1 a start around 0
would be off by half a standard deviation."""


def probability_flow_levels(
    score: Score,
    sigmas: Tensor,
    rng: Noise,
    *,
    denoise: bool,
    method: Method = "heun",
    churn: float = 0.0,
    churn_min: float = 0.0,
    churn_max: float = math.inf,
    churn_noise: float = 1.0,
    start: Tensor | None = None,
) -> Iterator[Tensor]:
    """The probability-flow ODE, one level at a time; with churn, EDM's algorithm 2.

    With churn each step begins by adding noise: from sigma up to sigma_hat = (1 + gamma) sigma, where
    gamma = min(churn / L, sqrt(2) - 1). The score is asked there, so it must be one for any sigma, as is
    not so for a network of a fixed ladder.

    Args:
        score: the score model.
        sigmas: the ladder, (L,), descending, without the final 0: `denoise` is the step to it.
        rng: draws the start, and z where there is churn, for these B samples.
        denoise: end with the step to sigma 0, which is Euler's in both methods:
            x + sigma_L^2 score(x, sigma_L).
        method: see `Method`.
        churn: S_churn of the paper, no unit; 0 is the plain ODE.
        churn_min: S_min, lowest sigma with churn, in the unit of x: half the published value for pixels
            in [0, 1].
        churn_max: S_max, the highest one, likewise.
        churn_noise: S_noise, standard deviation of the noise added, no unit.
        start: (B, *shape) at sigma_1; None draws it from N(0.5, sigma_1^2), see `PRIOR_MEAN`.

    Yields:
        L states, the start first, each at its level of the ladder, and with `denoise` one more at sigma 0:
        (B, *shape), unclamped.

    Raises:
        UserError: a ladder that does not descend or ends in 0, another method, or negative churn.
    """
    if method not in ("euler", "heun"):
        raise UserError(f"method is {method!r}: it must be 'euler' or 'heun'.")
    x = begin(sigmas, rng, start)
    gammas = _gammas(sigmas, churn, churn_min, churn_max, churn_noise)
    yield x
    sigmas = sigmas.to(x.device)
    for gamma, (sigma, below) in zip(gammas, pairwise(sigmas), strict=False):
        x, sigma = _raised(x, sigma, rng, gamma, churn_noise)
        x = _step(score, x, sigma, below, method)
        yield x
    if denoise:
        x, sigma = _raised(x, sigmas[-1], rng, gammas[-1], churn_noise)
        yield tweedie(score, x, sigma)


def probability_flow(
    score: Score,
    sigmas: Tensor,
    rng: Noise,
    *,
    denoise: bool,
    method: Method = "heun",
    churn: float = 0.0,
    churn_min: float = 0.0,
    churn_max: float = math.inf,
    churn_noise: float = 1.0,
    start: Tensor | None = None,
) -> Tensor:
    """Samples by the probability-flow ODE, or with churn by EDM's algorithm 2.

    Args:
        score, sigmas, rng, denoise, method, churn, churn_min, churn_max, churn_noise, start: see
            `probability_flow_levels`.

    Returns:
        (B, *shape), unclamped. With `denoise`, 'heun' costs 2 L - 1 evaluations of the score and 'euler'
        L; without it, one less.

    Raises:
        UserError: see `probability_flow_levels`.
    """
    levels = probability_flow_levels(
        score,
        sigmas,
        rng,
        denoise=denoise,
        method=method,
        churn=churn,
        churn_min=churn_min,
        churn_max=churn_max,
        churn_noise=churn_noise,
        start=start,
    )
    return last(levels)


def begin(sigmas: Tensor, rng: Noise, start: Tensor | None) -> Tensor:
    """Where a solver of the ODE starts on a ladder, which is checked here.

    Args:
        sigmas: the ladder, (L,), L at least 1.
        rng: draws the start if there is none.
        start: (B, *shape), or None for N(0.5, sigma_1^2), see `PRIOR_MEAN`.

    Returns:
        (B, *shape).

    Raises:
        UserError: a ladder that is empty, does not descend or has a sigma that is not positive.
    """
    check_ladder(sigmas)
    return PRIOR_MEAN + sigmas[0].to(rng.device) * rng.normal() if start is None else start


@torch.no_grad()
def tweedie(score: Score, x: Tensor, sigma: Tensor) -> Tensor:
    """The denoiser x + sigma^2 score(x, sigma), (B, *shape), without a gradient."""
    return denoise(score, x, sigma)


def _gammas(
    sigmas: Tensor, churn: float, churn_min: float, churn_max: float, churn_noise: float
) -> list[float]:
    for name, value in (("churn", churn), ("churn_noise", churn_noise)):
        if not (value >= 0 and math.isfinite(value)):
            raise UserError(f"{name} is {value}: it must not be negative.")
    gamma = min(churn / len(sigmas), math.sqrt(2) - 1)
    inside = (sigmas >= churn_min) & (sigmas <= churn_max)
    return [gamma if hit else 0.0 for hit in inside.tolist()]


def _raised(x: Tensor, sigma: Tensor, rng: Noise, gamma: float, churn_noise: float) -> tuple[Tensor, Tensor]:
    """x with noise added and the level it is then at, (1 + gamma) sigma (algorithm 2, lines 4 to 6)."""
    if gamma == 0:
        return x, sigma
    spread = churn_noise * math.sqrt((1 + gamma) ** 2 - 1) * sigma
    return x + spread * rng.normal(), (1 + gamma) * sigma


@torch.no_grad()
def _step(score: Score, x: Tensor, sigma: Tensor, below: Tensor, method: Method) -> Tensor:
    slope = _slope(score, x, sigma)
    end = x + (below - sigma) * slope
    if method == "euler":
        return end
    return x + (below - sigma) / 2 * (slope + _slope(score, end, below))


def _slope(score: Score, x: Tensor, sigma: Tensor) -> Tensor:
    return -match(sigma, x) * score(x, sigma)
