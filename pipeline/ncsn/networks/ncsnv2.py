"""The unconditional network of 2020, divided by sigma (arXiv 2006.09011, technique 3 and appendix B.1)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..score import match
from .normalization import InstanceNorm2dPlus, NoNorm
from .refinenet import RefineNet


class NCSNv2(RefineNet):
    """RefineNet with InstanceNorm++ in its residual blocks, none in its refine blocks; max pooling.

    Attributes:
        sigmas: the ladder it is trained on, (L,), a buffer for the sampler's use; None if not given.
    """

    sigmas: Tensor | None

    def __init__(
        self, *, channels: int, image_size: int, width: int, sigmas: Sequence[float] | Tensor | None = None
    ) -> None:
        """See `pipeline.ncsn.networks.make_network`."""
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
