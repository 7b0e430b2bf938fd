"""The loss of NCSN and NCSNv2: denoising score matching on the levels of the ladder, weighted by sigma^2."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Levels:
    """Each level of the ladder equally often (arXiv 1907.05600, equation 6)."""

    on_levels: ClassVar[bool] = True
    searched: ClassVar[tuple[str, ...]] = ()

    def sigmas(self, rng: np.random.Generator, count: int, ladder: Tensor) -> Tensor:
        """Levels of the ladder, each equally likely: (count,)."""
        return ladder[torch.from_numpy(rng.integers(0, len(ladder), count))]

    def weight(self, sigma: Tensor) -> Tensor:
        """1 for each example, for `denoising_score_matching` has the factor sigma^2 already: (B,)."""
        return torch.ones_like(sigma)
