"""Exponential moving average of the weights: rate * average + (1 - rate) * weights after each step."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from ..errors import UserError


@dataclass(frozen=True)
class Exponential:
    """NCSNv2's average (technique 5, arXiv 2006.09011)."""

    rate: float
    """The weight of the past, in [0, 1): 0.999 in NCSNv2."""

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise UserError(f"rate is {self.rate}: it must be at least 0 and below 1; no average is the kind none.")

    def update(self, average: list[Tensor], weights: list[Tensor], step: int) -> None:
        """Move the average towards the weights; see `Average.update`."""
        torch._foreach_lerp_(average, weights, 1 - self.rate)

    def shortened(self, full_steps: int, steps: int) -> Self:
        """1 - rate times full_steps / steps, never a longer memory than this; see `Average.shortened`."""
        rate = max(0.0, 1 - (1 - self.rate) * full_steps / steps)
        return replace(self, rate=min(rate, self.rate))
