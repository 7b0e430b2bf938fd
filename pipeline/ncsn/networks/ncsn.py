"""The noise conditional network of 2019 (arXiv 1907.05600, appendix A)."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ..errors import UserError
from .normalization import ConditionalInstanceNorm2dPlus
from .refinenet import RefineNet

_TOLERANCE = 1e-5


class NCSN(RefineNet):
    """RefineNet with conditional InstanceNorm++ before every convolution and pooling; mean pooling.

    Attributes:
        sigmas: the ladder it is trained on, (L,), a buffer; other levels are refused.
    """

    sigmas: Tensor

    def __init__(
        self, *, channels: int, image_size: int, width: int, sigmas: Sequence[float] | Tensor
    ) -> None:
        """See `pipeline.ncsn.networks.make_network`."""
        norm = partial(ConditionalInstanceNorm2dPlus, num_levels=len(sigmas))
        pool = nn.AvgPool2d(5, stride=1, padding=2)
        super().__init__(
            channels=channels, image_size=image_size, width=width, norm=norm, refine_norm=norm, pool=pool
        )
        self.register_buffer("sigmas", torch.as_tensor(sigmas, dtype=torch.float32).clone())

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The score of images in [0, 1], (B, C, H, W), at trained levels sigma, () or (B,).

        Raises:
            UserError: a sigma that is not in the ladder (within 1e-5 of its value).
        """
        return self.refine(x, self.level(sigma))

    def level(self, sigma: Tensor) -> Tensor:
        """The index in the ladder of each sigma, () or (B,): int64, (1,) or (B,).

        Raises:
            UserError: a sigma that is not in the ladder.
        """
        sigma = sigma.to(self.sigmas).reshape(-1, 1)
        deviation = (self.sigmas / sigma - 1).abs()
        nearest, level = deviation.min(dim=1)
        if not (nearest < _TOLERANCE).all():
            unknown = sigma[nearest.argmax()].item()
            raise UserError(
                f"sigma {unknown:.6g} is not one of the {len(self.sigmas)} levels this conditional network "
                f"was trained on ({self.sigmas[0]:.6g} to {self.sigmas[-1]:.6g}): sample on its own ladder."
            )
        return level
