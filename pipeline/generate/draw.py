"""Batch of samples drawn from a score. No Ray here: trials and tasks call this."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.ncsn.images import to_uint8
from pipeline.ncsn.nfe import CountEvaluations
from pipeline.ncsn.prior import Law
from pipeline.ncsn.rng import SampleNoise
from pipeline.ncsn.sampler import Sampler, denoised
from pipeline.ncsn.score import Score

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Shard:
    """Samples as bytes, uint8 (B, C, H, W), and what they cost."""

    raw: np.ndarray
    """With the noise of the last level."""
    denoised: np.ndarray
    """The same after x + sigma_L^2 score(x, sigma_L)."""
    levels: np.ndarray
    """The first samples on their way, uint8 (levels, watched, C, H, W)."""
    nfe: dict[str, int]
    """Network evaluations per sample, counted: `raw` and `denoised`."""


def draw(
    score: Score,
    sampler: Sampler,
    *,
    seed: int,
    indices: range,
    shape: Shape,
    device: str = "cpu",
    watched: int = 0,
    max_levels: int = 12,
    law: Law | None = None,
) -> Shard:
    """Draw the samples `indices` in one batch; sample k is a function of (seed, k) and of the batch's size.

    Args:
        shape: (C, H, W) of a sample.
        watched: how many of the first samples to keep on their way, after at most `max_levels` levels.
        law: the data's, for a sampler that starts there.

    Raises:
        UserError: the dynamics diverged to NaN or infinity.
    """
    counted = CountEvaluations(score)
    rng = SampleNoise(seed, indices, shape, device)
    keep = set(evenly(sampler.ladder.num_levels, max_levels))
    levels = []
    for level, x in enumerate(sampler.levels(counted, rng, law)):
        if watched and level in keep:
            levels.append(_bytes(x[:watched]))
    raw_nfe = counted.nfe
    clean = denoised(counted, x, sampler.ladder.sigmas())
    stacked = np.stack(levels) if levels else np.zeros((0, 0, *shape), np.uint8)
    return Shard(_bytes(x), _bytes(clean), stacked, {"raw": raw_nfe, "denoised": counted.nfe})


def evenly(num_levels: int, at_most: int) -> list[int]:
    """Up to `at_most` levels from the first to the last, evenly spaced: 5 of 21 -> [0, 5, 10, 15, 20]."""
    return sorted(set(np.linspace(0, num_levels - 1, min(at_most, num_levels)).round().astype(int).tolist()))


def _bytes(x: Tensor) -> np.ndarray:
    return to_uint8(x).cpu().numpy()


def single_threaded() -> None:
    """Compute on one thread: bits do not depend on the number of cores, and shards run side by side."""
    torch.set_num_threads(1)
