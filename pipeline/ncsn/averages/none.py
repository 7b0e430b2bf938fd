"""No moving average: samples are drawn from the weights as they are, as in NCSN (arXiv 1907.05600)."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class NoAverage:
    """The current weights themselves."""

    def update(self, average: list[Tensor], weights: list[Tensor], step: int) -> None:
        """Copy the weights; see `Average.update`."""
        torch._foreach_copy_(average, weights)

    def shortened(self, full_steps: int, steps: int) -> Self:
        """The same for a training of any length."""
        return self
