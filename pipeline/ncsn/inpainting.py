"""Inpainting by annealed Langevin dynamics: the rest of an image, given a part of it.

References:
    Y. Song, S. Ermon, arXiv 1907.05600, algorithm 2; the code released with arXiv 2006.09011.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from .errors import UserError
from .ladder import check_ladder
from .rng import Noise
from .sampler import last
from .samplers.langevin import Convention, langevin
from .score import Score

Form = Literal["v1", "v2"]
"""Where the known part's noise comes from. 'v1', algorithm 2 of NCSN: drawn once a level, pasted after every
step. 'v2', the code of NCSNv2: drawn again and pasted before every step, never after the last.

Neither ends with the clean known part: v1 ends with noise sigma_L on it, v2 a Langevin step from that.
Neither law is exact. Where the known part is y and its noise n, v1 settles at p(. | y + sigma n), and so at
the average of these laws over n; v2, whose n changes faster than the rest can follow, averages their scores
instead, and spreads less. Both are p(. | y) up to O(sigma_L^2), and as far as the levels last to settle."""


@torch.no_grad()
def inpainting_levels(
    score: Score,
    sigmas: Tensor,
    rng: Noise,
    *,
    known: Tensor,
    mask: Tensor,
    step_size: float,
    steps_per_level: int,
    form: Form,
    convention: Convention = "released",
    start: Tensor | None = None,
) -> Iterator[Tensor]:
    """Inpainting, one level at a time.

    Args:
        score: the score model.
        sigmas: the ladder, (L,), descending.
        rng: draws the start, z and the known part's noise for these B samples.
        known: the clean image, broadcastable to (B, *shape); its values outside the mask do not matter.
        mask: where it is known, boolean or of zeros and ones, broadcastable to (B, *shape).
        step_size: the step eps at the last level, in squared units of x (the paper: 2e-5).
        steps_per_level: T, at least 1 (the paper: 100).
        form: see `Form`.
        convention: see `pipeline.ncsn.samplers.langevin.Convention`.
        start: (B, *shape); None draws it from U[0, 1), as the papers do.

    Yields:
        L times: the samples after a level, (B, *shape), unclamped; each a tensor of its own.

    Raises:
        UserError: a ladder that `check_ladder` refuses, an unknown form, a step or number of steps that is
            not positive, a mask of other values than zeros and ones, or a mask or image of a shape that
            does not fit.
    """
    check_ladder(sigmas)
    if form not in ("v1", "v2"):
        raise UserError(f"form is {form!r}: it must be 'v1' (NCSN's algorithm 2) or 'v2' (NCSNv2's code).")
    if steps_per_level < 1:
        raise UserError(f"steps_per_level is {steps_per_level}: it must be at least 1.")
    x = rng.uniform() if start is None else start
    known, mask = _fitted(known, "known", x), _boolean(_fitted(mask, "mask", x))
    for sigma in sigmas.to(x.device):
        alpha = step_size * (float(sigma) / float(sigmas[-1])) ** 2
        pasted = _noisy(known, rng, sigma) if form == "v1" else known
        for _ in range(steps_per_level):
            if form == "v2":
                x = torch.where(mask, _noisy(known, rng, sigma), x)
            x = langevin(score, x, rng, sigma=sigma, step_size=alpha, steps=1, convention=convention)
            if form == "v1":
                x = torch.where(mask, pasted, x)
        yield x


def inpainting(
    score: Score,
    sigmas: Tensor,
    rng: Noise,
    *,
    known: Tensor,
    mask: Tensor,
    step_size: float,
    steps_per_level: int,
    form: Form,
    convention: Convention = "released",
    start: Tensor | None = None,
) -> Tensor:
    """Images whose part under the mask is `known`, up to noise of about sigma_L.

    Neither paper denoises them; `pipeline.ncsn.sampler.denoised` does, for one more evaluation.

    Args:
        score, sigmas, rng, known, mask, step_size, steps_per_level, form, convention, start: see
            `inpainting_levels`.

    Returns:
        (B, *shape), unclamped; L * T evaluations of the score.

    Raises:
        UserError: see `inpainting_levels`.
    """
    levels = inpainting_levels(
        score,
        sigmas,
        rng,
        known=known,
        mask=mask,
        step_size=step_size,
        steps_per_level=steps_per_level,
        form=form,
        convention=convention,
        start=start,
    )
    return last(levels)


def _noisy(known: Tensor, rng: Noise, sigma: Tensor) -> Tensor:
    return known.add(rng.normal(), alpha=float(sigma))


def _fitted(tensor: Tensor, name: str, x: Tensor) -> Tensor:
    try:
        return tensor.to(x.device).expand(x.shape)
    except RuntimeError:
        raise UserError(
            f"{name} has the shape {tuple(tensor.shape)}, which does not broadcast to the samples' {tuple(x.shape)}."
        ) from None


def _boolean(mask: Tensor) -> Tensor:
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise UserError("mask has values other than 0 and 1: give 1 where the image is known, 0 elsewhere.")
    return mask == 1
