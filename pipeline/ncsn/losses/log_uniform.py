"""Denoising score matching at any sigma between the ends of the ladder, its logarithm uniform."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class LogUniform:
    """The continuous form of a geometric ladder, with the same ends; weighted by sigma^2 as `levels` is."""

    on_levels: ClassVar[bool] = False
    searched: ClassVar[tuple[str, ...]] = ()

    def sigmas(self, rng: np.random.Generator, count: int, ladder: Tensor) -> Tensor:
        """sigma_L (sigma_1 / sigma_L)^u with u uniform on [0, 1): (count,) float32."""
        u = torch.from_numpy(rng.random(count, np.float32))
        highest, lowest = float(ladder[0]), float(ladder[-1])
        return lowest * torch.exp(u * math.log(highest / lowest))

    def weight(self, sigma: Tensor) -> Tensor:
        """1 for each example, for `denoising_score_matching` has the factor sigma^2 already: (B,)."""
        return torch.ones_like(sigma)
