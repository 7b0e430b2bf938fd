"""The loss of EDM: log-normal noise levels, and the weight that makes the loss equal at each of them.

References:
    T. Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (EDM),
        arXiv 2206.00364, equation 2 and table 1.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError

SIGMA_DATA = 0.25
"""EDM's standard deviation of the data, 0.5 for pixels in [-1, 1], in the unit of pixels in [0, 1]."""


@dataclass(frozen=True)
class EDM:
    """log sigma ~ N(p_mean, p_std^2), at any ladder; EDM's own numbers are -1.2 and 1.2."""

    p_mean: float
    """Mean of log sigma. Pixels in [0, 1] have half of EDM's sigma: -1.2 - log 2 = -1.89 is EDM's here."""
    p_std: float
    """Standard deviation of log sigma, the same in either unit."""

    on_levels: ClassVar[bool] = False
    searched: ClassVar[tuple[str, ...]] = ("p_mean", "p_std")

    def __post_init__(self) -> None:
        if not (self.p_std > 0 and math.isfinite(self.p_std)):
            raise UserError(f"p_std is {self.p_std}: it must be a positive number.")
        if not math.isfinite(self.p_mean):
            raise UserError(f"p_mean is {self.p_mean}: it must be a number, such as -1.89.")

    def sigmas(self, rng: np.random.Generator, count: int, ladder: Tensor) -> Tensor:
        """exp(p_mean + p_std z) with z standard normal: (count,) float32; the ladder does not matter."""
        z = torch.from_numpy(rng.standard_normal(count, np.float32))
        return torch.exp(self.p_mean + self.p_std * z)

    def weight(self, sigma: Tensor) -> Tensor:
        """2 (sigma^2 + SIGMA_DATA^2) / SIGMA_DATA^2, of the shape of sigma.

        EDM's loss is lambda ||denoiser(x_tilde, sigma) - x||^2, summed over pixels, with lambda =
        (sigma^2 + sigma_data^2) / (sigma sigma_data)^2. Since denoiser - x = sigma (sigma score + noise),
        that is lambda sigma^2 ||sigma score + noise||^2; `denoising_score_matching` has half the square.
        """
        return 2 * (1 + (sigma / SIGMA_DATA) ** 2)
