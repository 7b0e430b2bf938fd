"""The randomness of a sample as a function of (seed, its index) alone."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.random.bit_generator import ISeedSequence
from torch import Tensor

_BLOCK = 4_096
_FIRST = 2
"""Normal draws made at once at first; half as many as there were so far after that."""


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
        self._generators = [np.random.Generator(_philox(key)) for key in _keys(seed, indices)]
        # Normal draws are made for several iterations at once where a sample is small. They are of blocks, whose
        # length is a function of the shape only: a uniform draw comes behind the block that was begun, wherever
        # in it the draws are, so that the length is part of what fixes the stream.
        self._ahead = max(1, _BLOCK // math.prod(self.shape))
        self._rest = 0
        self._drawn = 0
        self._pending: list[Tensor] = []

    def __len__(self) -> int:
        """The number B of samples."""
        return len(self._generators)

    def uniform(self) -> Tensor:
        """Uniform draws on [0, 1), (B, *shape) float32."""
        self._draw(self._rest)
        draws = np.empty((len(self), *self.shape), dtype=np.float32)
        for generator, row in zip(self._generators, draws, strict=True):
            generator.random(dtype=np.float32, out=row)
        return torch.from_numpy(draws).to(self.device)

    def normal(self) -> Tensor:
        """Standard normal draws, (B, *shape) float32."""
        if not self._pending:
            self._rest = self._rest or self._ahead
            self._draw(min(self._rest, max(_FIRST, self._drawn // 2)))
        return self._pending.pop()

    def _draw(self, count: int) -> None:
        """Make so many of the block's normal draws pending, behind those that are."""
        if count:
            self._pending = [*self._normal(count).unbind()[::-1], *self._pending]
            self._rest -= count
            self._drawn += count

    def _normal(self, count: int) -> Tensor:
        draws = np.empty((len(self), count, *self.shape), dtype=np.float32)
        for generator, row in zip(self._generators, draws, strict=True):
            generator.standard_normal(dtype=np.float32, out=row)
        return torch.from_numpy(draws).transpose(0, 1).contiguous().to(self.device)


_START = np.zeros(4, dtype=np.uint64)
"""The counter of a new Philox, which as an array costs half a Philox less than as its default, a number."""


def _keys(seed: int, indices: Sequence[int]) -> np.ndarray:
    keys = np.full((len(indices), 2), seed, dtype=np.uint64)
    keys[:, 1] = indices
    return keys


def _philox(key: np.ndarray) -> np.random.Philox:
    return np.random.Philox(_Key(key), counter=_START)  # type: ignore[arg-type]  # the types know no interface


class _Key(ISeedSequence):
    """The key of a Philox as its seed: `Philox(key=...)` asks the system for entropy that it does not use."""

    def __init__(self, words: np.ndarray) -> None:
        self._words = words

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> Any:
        """Both words of the key, which is all that Philox asks for."""
        return self._words
