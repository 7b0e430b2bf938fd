"""NCSN, the noise conditional score network of 2019 (arXiv 1907.05600, appendix A)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..errors import UserError
from ._normalization import ConditionalInstanceNorm2dPlus, gather
from ._refinenet import RefineNet, check_width, plan

_TOLERANCE = 1e-5


@dataclass(frozen=True)
class NCSNSettings:
    """The network of 2019: weights of its own for each level, so that it knows no other."""

    width: int
    """Channels of the first layer, 128 in the paper, 64 for MNIST; the layout follows from the image size."""

    conditional_on_levels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_width(self.width)

    def check_size(self, image_size: int) -> None:
        """Refuse a size that `build` would, without building: UserError."""
        plan(image_size)

    def build(self, channels: int, image_size: int, sigmas: Sequence[float] | Tensor | None) -> nn.Module:
        """An `NCSN` on the ladder `sigmas`, (L,), with random weights.

        Raises:
            UserError: no ladder, or an impossible size.
        """
        if sigmas is None:
            raise UserError("the network 'ncsn' is conditional on its levels: give `sigmas`.")
        return NCSN(channels=channels, image_size=image_size, width=self.width, sigmas=sigmas)


class NCSN(RefineNet):
    """RefineNet with conditional InstanceNorm++ before every convolution and pooling; mean pooling.

    Attributes:
        sigmas: the ladder it is trained on, (L,), a buffer; other levels are refused.
    """

    sigmas: Tensor
    conditional_on_levels = True

    def __init__(self, *, channels: int, image_size: int, width: int, sigmas: Sequence[float] | Tensor) -> None:
        """See `NCSNSettings`."""
        norm = partial(ConditionalInstanceNorm2dPlus, num_levels=len(sigmas))
        pool = nn.AvgPool2d(5, stride=1, padding=2)
        super().__init__(channels=channels, image_size=image_size, width=width, norm=norm, refine_norm=norm, pool=pool)
        self.register_buffer("sigmas", torch.as_tensor(sigmas, dtype=torch.float32).clone())

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The score of images in [0, 1], (B, C, H, W), at trained levels sigma, () or (B,).

        Raises:
            UserError: a sigma that is not in the ladder (within 1e-5 of its value).
        """
        return self.refine(x, gather(self, self.level(sigma)))

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
