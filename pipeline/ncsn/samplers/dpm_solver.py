"""DPM-Solver++(2M): the probability-flow ODE at order 2 for one evaluation a step.

References:
    C. Lu et al., "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models",
    arXiv 2211.01095, algorithm 2 (2M), here with alpha = 1: x at level sigma is data plus sigma z.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..score import Score, denoise
from ._ode import ODESolver


@dataclass(frozen=True)
class DPMSolver(ODESolver):
    """The probability-flow ODE by DPM-Solver++(2M): L evaluations on L levels, the last denoising included.

    With lambda = -log sigma the ODE is solved exactly for a denoiser D that does not change over a step:
    x <- (sigma' / sigma) x + (1 - sigma' / sigma) D. D is extrapolated to the middle of the step, in
    lambda, from this level's denoiser and that of the level above; the first step has this level's alone.
    """

    def solution(self, score: Score, x: Tensor, sigmas: Tensor) -> Iterator[Tensor]:
        """See `ODESolver.solution`."""
        steps, ratios = -sigmas.log().diff(), sigmas[1:] / sigmas[:-1]
        kept, moved, ahead = (v.unbind() for v in (ratios, 1 - ratios, steps[1:] / (2 * steps[:-1])))
        above = None
        for i, sigma in enumerate(sigmas[:-1]):
            clean = _denoiser(score, x, sigma)
            middle = clean if above is None else clean + ahead[i - 1] * (clean - above)
            x = kept[i] * x + moved[i] * middle
            above = clean
            yield x


@torch.no_grad()
def _denoiser(score: Score, x: Tensor, sigma: Tensor) -> Tensor:
    return denoise(score, x, sigma)
