"""NCSNv2, the unconditional network of 2020, divided by sigma (arXiv 2006.09011, technique 3, B.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..score import match
from ._normalization import InstanceNorm2dPlus, NoNorm
from ._refinenet import RefineNet, check_width, plan


@dataclass(frozen=True)
class NCSNv2Settings:
    """The network of 2020, which knows any noise level by dividing by it."""

    width: int
    """Channels of the first layer, 128 in the paper; the layout follows from the image size."""

    conditional_on_levels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_width(self.width)

    def check_size(self, image_size: int) -> None:
        """Refuse a size that `build` would, without building: UserError."""
        plan(image_size)

    def build(self, channels: int, image_size: int, sigmas: Sequence[float] | Tensor | None) -> nn.Module:
        """An `NCSNv2` with random weights; it keeps the ladder `sigmas`, (L,), if there is one.

        Raises:
            UserError: an impossible size.
        """
        return NCSNv2(channels=channels, image_size=image_size, width=self.width, sigmas=sigmas)


class NCSNv2(RefineNet):
    """RefineNet with InstanceNorm++ in its residual blocks, none in its refine blocks; max pooling.

    Attributes:
        sigmas: the ladder it is trained on, (L,), a buffer for the sampler's use; None if not given.
    """

    sigmas: Tensor | None

    def __init__(
        self, *, channels: int, image_size: int, width: int, sigmas: Sequence[float] | Tensor | None = None
    ) -> None:
        """See `NCSNv2Settings`."""
        super().__init__(
            channels=channels,
            image_size=image_size,
            width=width,
            norm=InstanceNorm2dPlus,
            refine_norm=lambda _: NoNorm(),
            pool=nn.MaxPool2d(5, stride=1, padding=2),
        )
        ladder = None if sigmas is None else torch.as_tensor(sigmas, dtype=torch.float32).clone()
        self.register_buffer("sigmas", ladder)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The score s(x) / sigma of images in [0, 1], (B, C, H, W), at any sigma, () or (B,)."""
        return self.refine(x, None) / match(sigma, x)
