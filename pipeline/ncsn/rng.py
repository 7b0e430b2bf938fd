"""The randomness of a sample as a function of (seed, its index) alone."""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

_BLOCK = 4_096


class Noise(Protocol):
    """What a sampler draws from: the noise of B samples."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample, such as (C, H, W)."""

    @property
    def device(self) -> torch.device:
        """Where the draws are."""

    def __len__(self) -> int:
        """The number B of samples."""

    def uniform(self) -> Tensor:
        """Uniform draws on [0, 1], (B, *shape) float32."""

    def normal(self) -> Tensor:
        """Standard normal draws, (B, *shape) float32."""


class SampleNoise:
    """One counter-based generator per sample, so that sample k is sample k in any batch and order.

    The generator of sample k is Philox with the key (seed, k): no two samples share a stream, which seeds
    hashed to 32 bits would not promise over 50,000 samples. Draws are made on the CPU and moved, so that
    the device does not change them.
    """

    def __init__(
        self, seed: int, indices: Sequence[int], shape: Sequence[int], device: torch.device | str = "cpu"
    ) -> None:
        """
        Args:
            seed: the seed of the whole set of samples, at least 0.
            indices: the B global indices k of this batch, each at least 0.
            shape: of one sample, such as (C, H, W).
            device: where the draws are needed.
        """
        self.shape = tuple(shape)
        self.device = torch.device(device)
        keys = [np.array([seed, k], dtype=np.uint64) for k in indices]
        self._generators = [np.random.Generator(np.random.Philox(key=key)) for key in keys]
        # Normal draws are made for several iterations at once where a sample is small: the number is
        # a function of the shape only, since it is part of what fixes the stream.
        self._ahead = max(1, _BLOCK // math.prod(self.shape))
        self._pending: list[Tensor] = []

    def __len__(self) -> int:
        """The number B of samples."""
        return len(self._generators)

    def uniform(self) -> Tensor:
        """Uniform draws on [0, 1), (B, *shape) float32."""
        draws = np.empty((len(self), *self.shape), dtype=np.float32)
        for generator, row in zip(self._generators, draws, strict=True):
            generator.random(dtype=np.float32, out=row)
        return torch.from_numpy(draws).to(self.device)

    def normal(self) -> Tensor:
        """Standard normal draws, (B, *shape) float32."""
        if not self._pending:
            self._pending = list(self._normal_block().unbind())[::-1]
        return self._pending.pop()

    def _normal_block(self) -> Tensor:
        draws = np.empty((len(self), self._ahead, *self.shape), dtype=np.float32)
        for generator, row in zip(self._generators, draws, strict=True):
            generator.standard_normal(dtype=np.float32, out=row)
        return torch.from_numpy(draws).transpose(0, 1).contiguous().to(self.device)
