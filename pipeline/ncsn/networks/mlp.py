"""The small network of the toy experiments (arXiv 1907.05600, appendix B.1)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..score import match


class MLP(nn.Module):
    """Three linear layers with softplus between, divided by sigma (sigma = 1: the plain network).

    Unlike the image networks it takes x as it is, in any unit.

    Attributes:
        sigmas: the ladder it is trained on, (L,), a buffer for the sampler's use; None if not given.
    """

    sigmas: Tensor | None

    def __init__(self, *, dim: int, width: int, sigmas: Sequence[float] | Tensor | None = None) -> None:
        """
        Args:
            dim: the number of values of a point.
            width: hidden units, 128 in the paper.
            sigmas: the ladder, or None.
        """
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, width),
            nn.Softplus(),
            nn.Linear(width, width),
            nn.Softplus(),
            nn.Linear(width, dim),
        )
        ladder = None if sigmas is None else torch.as_tensor(sigmas, dtype=torch.float32).clone()
        self.register_buffer("sigmas", ladder)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The score of points, (B, *shape) with `dim` values each, at sigma, () or (B,)."""
        h: Tensor = self.layers(x.flatten(1))
        return h.view_as(x) / match(sigma, x)
