"""Samples of a score in fixed shards, and the sampler's settings. No Ray here: trials and tasks call this."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.ncsn import noise
from pipeline.ncsn.score import Score
from pipeline.samplers.images import to_uint8
from pipeline.samplers.langevin import annealed_langevin_levels, denoised
from pipeline.samplers.nfe import CountEvaluations
from pipeline.samplers.seeds import SampleNoise

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Ladder:
    """A geometric noise ladder, in units of pixels in [0, 1]."""

    sigma_max: float
    sigma_min: float
    num_levels: int

    def sigmas(self) -> Tensor:
        """(L,) float32, descending."""
        return noise.geometric_sigmas(self.sigma_max, self.sigma_min, self.num_levels)

    def plain(self) -> dict[str, Any]:
        """The settings as YAML holds them."""
        return asdict(self)

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Self:
        """From a mapping that holds these keys, and maybe others."""
        try:
            return cls(**{name: plain[name] for name in cls.__dataclass_fields__})
        except KeyError as error:
            raise UserError(
                f"the settings {dict(plain)} lack {error}: repeat the stage that wrote them."
            ) from error


@dataclass(frozen=True)
class Sampler(Ladder):
    """Annealed Langevin dynamics: the ladder, the step eps at its last level, and steps T at each level."""

    step_lr: float
    steps_per_level: int

    @classmethod
    def analytic(cls, ladder: Ladder, steps_per_level: int, ratio: float = 1.0) -> Self:
        """The step by technique 4 of NCSNv2 (arXiv 2006.09011), times `ratio`."""
        step_lr = noise.step_lr(ladder.sigmas(), steps_per_level) * ratio
        return cls(ladder.sigma_max, ladder.sigma_min, ladder.num_levels, step_lr, steps_per_level)


@dataclass(frozen=True)
class Drawn:
    """Samples as bytes, uint8 (B, C, H, W), and what they cost."""

    raw: np.ndarray
    """The end of annealed Langevin dynamics."""
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
) -> Drawn:
    """Draw the samples `indices` in one batch; sample k is a function of (seed, k) and of the batch's size.

    Args:
        shape: (C, H, W) of a sample.
        watched: how many of the first samples to keep on their way, after at most `max_levels` levels.

    Raises:
        UserError: the dynamics diverged to NaN or infinity.
    """
    counted = CountEvaluations(score)
    sigmas, rng = sampler.sigmas(), SampleNoise(seed, indices, shape, device)
    keep = set(evenly(sampler.num_levels, max_levels))
    levels = []
    for level, x in enumerate(_levels(counted, sampler, sigmas, rng)):
        if watched and level in keep:
            levels.append(_bytes(x[:watched]))
    raw_nfe = counted.nfe
    clean = denoised(counted, x, sigmas)
    kept = np.stack(levels) if levels else np.zeros((0, 0, *shape), np.uint8)
    return Drawn(_bytes(x), _bytes(clean), kept, {"raw": raw_nfe, "denoised": counted.nfe})


def evenly(num_levels: int, at_most: int) -> list[int]:
    """Up to `at_most` levels from the first to the last, evenly spaced: 5 of 21 -> [0, 5, 10, 15, 20]."""
    return sorted(set(np.linspace(0, num_levels - 1, min(at_most, num_levels)).round().astype(int).tolist()))


def _levels(score: Score, sampler: Sampler, sigmas: Tensor, rng: SampleNoise) -> Iterator[Tensor]:
    return annealed_langevin_levels(
        score, sigmas, rng, step_lr=sampler.step_lr, steps_per_level=sampler.steps_per_level
    )


def _bytes(x: Tensor) -> np.ndarray:
    return to_uint8(x).cpu().numpy()


def single_threaded() -> None:
    """Compute on one thread: bits do not depend on the number of cores, and shards run side by side."""
    torch.set_num_threads(1)
