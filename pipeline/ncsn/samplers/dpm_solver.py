"""DPM-Solver++(2M): the probability-flow ODE at order 2 for one evaluation a step.

References:
    C. Lu et al., "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models",
    arXiv 2211.01095, algorithm 2 (2M), here with alpha = 1: x at level sigma is data plus sigma z.
"""

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from ..score import Score
from .ode import begin, tweedie
from .rng import Noise
from .sigmas import last


def dpm_solver_levels(
    score: Score,
    sigmas: Tensor,
    rng: Noise,
    *,
    denoise: bool,
    start: Tensor | None = None,
) -> Iterator[Tensor]:
    """DPM-Solver++(2M), one level at a time.

    With lambda = -log sigma the ODE is solved exactly for a denoiser D that does not change over a step:
    x <- (sigma' / sigma) x + (1 - sigma' / sigma) D. D is extrapolated to the middle of the step, in
    lambda, from this level's denoiser and that of the level above; the first step has this level's alone.

    Args:
        score: the score model.
        sigmas: the ladder, (L,), descending, without the final 0: `denoise` is the step to it.
        rng: draws the start for these B samples.
        denoise: end with the step to sigma 0, which is of order 1: x + sigma_L^2 score(x, sigma_L).
        start: (B, *shape) at sigma_1; None draws it from N(0.5, sigma_1^2), see `ode.PRIOR_MEAN`.

    Yields:
        L states, the start first, each at its level of the ladder, and with `denoise` one more at sigma 0:
        (B, *shape), unclamped.

    Raises:
        UserError: a ladder that does not descend or ends in 0.
    """
    x = begin(sigmas, rng, start)
    yield x
    sigmas = sigmas.to(x.device)
    steps = -sigmas.log().diff()
    above = None
    for i, (sigma, below) in enumerate(pairwise(sigmas)):
        clean = tweedie(score, x, sigma)
        middle = clean if above is None else clean + steps[i] / (2 * steps[i - 1]) * (clean - above)
        x = below / sigma * x + (1 - below / sigma) * middle
        above = clean
        yield x
    if denoise:
        yield tweedie(score, x, sigmas[-1])


def dpm_solver(
    score: Score,
    sigmas: Tensor,
    rng: Noise,
    *,
    denoise: bool,
    start: Tensor | None = None,
) -> Tensor:
    """Samples by DPM-Solver++(2M).

    Args:
        score, sigmas, rng, denoise, start: see `dpm_solver_levels`.

    Returns:
        (B, *shape), unclamped; L evaluations of the score with `denoise`, L - 1 without.

    Raises:
        UserError: see `dpm_solver_levels`.
    """
    levels = dpm_solver_levels(score, sigmas, rng, denoise=denoise, start=start)
    return last(levels)
