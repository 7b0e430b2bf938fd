"""Gaussian mixtures: density, score and samples in closed form, at every noise level; that of the toys."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.score import match

Array = NDArray[np.float32]
WEIGHTS = (0.2, 0.8)
MEANS = ((-5.0, -5.0), (5.0, 5.0))
"""Of Figures 2 and 3: 1/5 N((-5, -5), I) + 4/5 N((5, 5), I)."""
HALF_WIDTH = 8.0
"""The figures and the samplers' start cover [-8, 8]^2."""
Noisy = Literal["convolution", "released"]
"""What noise sigma does to a component of standard deviation std: 'convolution' makes it
sqrt(std^2 + sigma^2), the law of x + sigma z; 'released' makes it sigma, as the published code of NCSN's
Figure 3 does, so that its last level, sigma = std, is the clean density itself."""


class GaussianMixture:
    """sum_k w_k N(mean_k, std^2 I), clean and noisy. `mixture.score` is a score model."""

    def __init__(self, weights: Sequence[float], means: Tensor, std: float, *, noisy: Noisy = "convolution") -> None:
        """
        Args:
            weights: of the K components, positive; they are normalised.
            means: (K, *shape).
            std: standard deviation of every component, positive.
            noisy: see `Noisy`.

        Raises:
            UserError: a weight or std that is not positive, or another number of weights than means.
        """
        if len(weights) != len(means) or min(weights, default=0) <= 0:
            raise UserError(f"weights is {weights}: {len(means)} positive numbers are needed, one a mean.")
        if not std > 0:
            raise UserError(f"std is {std}: it must be positive.")
        if noisy not in ("convolution", "released"):
            raise UserError(f"noisy is {noisy!r}: it must be 'convolution' or 'released'.")
        self.weights = torch.tensor(weights, dtype=torch.float64) / sum(weights)
        self.means = means
        self._log_weights = self.weights.log().to(means)
        self.std = std
        self.noisy = noisy

    def component_std(self, sigma: Tensor | float) -> Tensor:
        """The standard deviation of a component at noise sigma, of sigma's shape."""
        sigma = torch.as_tensor(sigma)
        return sigma if self.noisy == "released" else (self.std**2 + sigma**2).sqrt()

    def log_prob(self, x: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """log p_sigma(x), in nats.

        Args:
            x: (B, *shape).
            sigma: noise standard deviation, () or (B,).

        Returns:
            (B,).
        """
        dim = math.prod(x.shape[1:])
        variance = match(self.component_std(sigma), x).flatten() ** 2
        return self._log_joint(x, sigma).logsumexp(1) - dim / 2 * (2 * math.pi * variance).log()

    def responsibilities(self, x: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """The probability of each component given x, (B, K); arguments as `log_prob`."""
        return self._log_joint(x, sigma).softmax(1)

    def score(self, x: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """grad log p_sigma(x), (B, *shape); arguments as `log_prob`."""
        weights = self.responsibilities(x, sigma)
        means = self.means.to(x).flatten(1)
        pull = (weights[:, :, None] * means).sum(1).view_as(x) - x
        return pull / match(self.component_std(sigma), x) ** 2

    def mode(self, x: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """The index of the most probable component of each x, (B,) int64."""
        return self._log_joint(x, sigma).argmax(1)

    def sample(self, n: int, generator: torch.Generator, sigma: float | None = None) -> Tensor:
        """n independent draws, (n, *shape): of the clean mixture, or at noise sigma where it is given."""
        component = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        means = self.means[component.to(self.means.device)]
        noise = torch.randn(means.shape, generator=generator, dtype=means.dtype).to(means.device)
        return means + (self.std if sigma is None else float(self.component_std(sigma))) * noise

    def _log_joint(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """log w_k - |x - mean_k|^2 / (2 std_sigma^2), (B, K); differences first, so no batch size matters."""
        difference = x.flatten(1)[:, None] - self.means.to(x).flatten(1)
        variance = match(self.component_std(sigma), x).reshape(-1, 1) ** 2
        return self._log_weights.to(x) - difference.square().sum(2) / (2 * variance)


def mixture(noisy: Noisy = "convolution") -> GaussianMixture:
    """The density of Figures 2 and 3: two modes in the plane, of weight 1/5 and 4/5."""
    return GaussianMixture(WEIGHTS, torch.tensor(MEANS), 1.0, noisy=noisy)
