"""Interpolation between samples, by interpolating the noise that makes them.

References:
    Y. Song, S. Ermon, arXiv 2006.09011, the appendix on image interpolation, and its released code.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .errors import UserError
from .rng import SampleNoise
from .sampler import SamplerSettings, sample
from .score import Score


class InterpolatedNoise:
    """The draws of `SampleNoise` between those of two samples: any sampler called with it interpolates.

    For a pair (a, b) of samples and `count` places t from 0 to 1, both included, every standard normal draw
    is cos(t pi / 2) z_a + sin(t pi / 2) z_b: standard normal again, so that what a sampler makes
    of it is a sample of its law. Uniform draws, the start of annealed Langevin dynamics, are mixed as their
    normal quantiles, and stay uniform. Place 0 gives sample a, place 1 sample b, to the bit.
    """

    def __init__(
        self,
        seed: int,
        pairs: Sequence[tuple[int, int]],
        count: int,
        shape: Sequence[int],
        device: torch.device | str = "cpu",
    ) -> None:
        """
        Args:
            seed: the seed of the set of samples, as for `SampleNoise`.
            pairs: P pairs of indices k of that set; a pair is two different samples.
            count: samples a pair, at least 2.
            shape: of one sample, such as (C, H, W).
            device: where the draws are needed.

        Raises:
            UserError: a sample paired with itself, or a count below 2.
        """
        if any(a == b for a, b in pairs):
            raise UserError(f"pairs is {list(pairs)}: a pair must be two different samples.")
        if count < 2:
            raise UserError(f"count is {count}: a pair has at least its 2 ends.")
        self.shape = tuple(shape)
        self.device = torch.device(device)
        self._first = SampleNoise(seed, [a for a, _ in pairs], shape, device)
        self._second = SampleNoise(seed, [b for _, b in pairs], shape, device)
        angles = torch.linspace(0, math.pi / 2, count, dtype=torch.float64, device=device)
        # cos as the sine of the angle from the other end, which is exactly 0 there
        self._cos, self._sin = (angles.view(-1, *[1] * len(shape)).sin() for angles in (angles.flip(0), angles))

    @property
    def count(self) -> int:
        """The samples of a pair."""
        return len(self._cos)

    def __len__(self) -> int:
        """The number P * count of samples; those of a pair stand together."""
        return len(self._first) * self.count

    def normal(self) -> Tensor:
        """Standard normal draws, (P * count, *shape) float32."""
        return self._mixed(self._first.normal(), self._second.normal())

    def uniform(self) -> Tensor:
        """Uniform draws on [0, 1], (P * count, *shape) float32."""
        first, second = (_quantile(rng.uniform()) for rng in (self._first, self._second))
        mixed: Tensor = torch.special.ndtr(self._mixed(first, second))
        return mixed.float()

    def _mixed(self, first: Tensor, second: Tensor) -> Tensor:
        cos, sin = self._cos.to(first.dtype), self._sin.to(first.dtype)
        return (cos * first[:, None] + sin * second[:, None]).flatten(0, 1)


def interpolation(
    settings: SamplerSettings,
    score: Score,
    sigmas: Tensor,
    rng: InterpolatedNoise,
    *,
    denoise: bool,
    start: Tensor | None = None,
) -> Tensor:
    """Samples between pairs of samples, as NCSNv2 makes them by annealed Langevin dynamics.

    Args:
        settings: a kind of sampler, such as `Langevin`.
        score, sigmas, denoise: see `pipeline.ncsn.sampler.sample`.
        rng: the pairs, P of them with `count` samples each.
        start: (P, *shape), from which all samples of a pair start, as in the paper; None starts them between
            the starts of its two, so that the ends are these samples.

    Returns:
        (P * count, *shape), unclamped: a row of `count` for each pair.

    Raises:
        UserError: another number of starts than pairs, or what the sampler refuses.
    """
    shared = None if start is None else _shared(start, rng)
    return sample(settings, score, sigmas, rng, denoise=denoise, start=shared)


def _shared(start: Tensor, rng: InterpolatedNoise) -> Tensor:
    """Each pair's start for all its samples: (P * count, *shape)."""
    if len(start) * rng.count != len(rng):
        raise UserError(f"start holds {len(start)} starts for {len(rng) // rng.count} pairs: give one for each pair.")
    return start.repeat_interleave(rng.count, 0)


def _quantile(uniform: Tensor) -> Tensor:
    """The standard normal quantiles, in float64 so that they map back to the bit; a 0 is kept finite."""
    quantile: Tensor = torch.special.ndtri(uniform.double().clamp(min=1e-300))
    return quantile
