"""Initial distribution of samplers: a Gaussian with the data's mean and covariance, or one about 0.5.

Langevin dynamics forget where they start; a solver of the ODE does not.

The law of the data with noise sigma_1 has their mean m and the covariance S + sigma_1^2 I, exactly. A start
at N(0.5, sigma_1^2 I) leaves S and m - 0.5 out, which sigma_1 dwarfs in EDM's ladders. On a ladder that was
searched for Langevin dynamics, which forget their start, sigma_1 is no larger than the data's own spread.
"""

import hashlib
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from .ladder import check_ladder
from .rng import Noise

PRIOR_MEAN = 0.5
"""The mean of pixels in [0, 1] at sigma_1, before any is seen. EDM's pixels lie in [-1, 1] and start from
sigma_1 z; here that is 0.5 + sigma_1 z, with sigma_1 half of EDM's. At NCSN's sigma_1 = 1 a start around 0
would be off by half a standard deviation."""

AT_MOST = 2_000
"""Images whose moments are taken, the first ones: a bound on the size of `Law.root`."""


@dataclass(frozen=True, eq=False)
class Law:
    """A Gaussian law of images, pixels in [0, 1]: N(mean, root^T root)."""

    mean: Tensor
    """(C, H, W) float32."""
    root: Tensor
    """(r, D) float32, D = C H W and r at most D."""

    @classmethod
    def of(cls, images: np.ndarray) -> Self:
        """The law of uint8 images (n, C, H, W), by the first `AT_MOST` of them, the covariance with n - 1."""
        x = torch.from_numpy(np.array(images[:AT_MOST])).flatten(1).double() / 255
        mean, n = x.mean(dim=0), len(x)
        root = (x - mean) / max(n - 1, 1) ** 0.5
        if n > x.shape[1]:
            root = torch.linalg.qr(root, mode="r").R
        return cls(mean.reshape(images.shape[1:]).float(), root.float().contiguous())

    def draw(self, rng: Noise, sigma: float) -> Tensor:
        """Samples of the law with noise of standard deviation `sigma` added: (B, C, H, W)."""
        mean, root = self.mean.to(rng.device), self.root.to(rng.device)
        spread = rng.normal().flatten(1)[:, : len(root)] @ root
        return mean + spread.reshape(len(rng), *mean.shape) + sigma * rng.normal()

    def digest(self) -> str:
        """SHA-256 of both, for a fingerprint of samples."""
        return hashlib.sha256(self.mean.numpy().tobytes() + self.root.numpy().tobytes()).hexdigest()


def begin(sigmas: Tensor, rng: Noise, start: Tensor | None) -> Tensor:
    """The start on a ladder, which is checked here.

    Args:
        sigmas: the ladder, (L,), L at least 1.
        rng: draws the start if there is none.
        start: (B, *shape), or None for N(0.5, sigma_1^2 I), see `PRIOR_MEAN`.

    Returns:
        (B, *shape).

    Raises:
        UserError: a ladder that is empty, does not descend or has a sigma that is not positive.
    """
    check_ladder(sigmas)
    return PRIOR_MEAN + sigmas[0].to(rng.device) * rng.normal() if start is None else start
