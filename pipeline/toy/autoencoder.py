"""The residual auto-encoder of NCSN's Figure 1 (arXiv 1907.05600, section 3.2.1 and appendix B.1)."""

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.ncsn.errors import UserError

FILTERS = (1, 2, 2, 4, 4)
"""Of the five residual blocks down, as multiples of the first's; the five blocks up mirror them."""
HALVED = (1, 3)
"""The blocks, counted from 0, before which the image is halved: where the filters double. The paper's
places were not confirmed by any source at hand."""


class EluBlock(nn.Module):
    """ELU, 3 x 3 convolution, twice, beside a shortcut: (B, C, H, W) to (B, C', H, W)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        same = channels_in == channels_out
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Transform x, (B, C, H, W)."""
        h: Tensor = self.shortcut(x) + self.conv2(F.elu(self.conv1(F.elu(x))))
        return h


class AutoEncoder(nn.Module):
    """Five residual blocks down, five up: an unconditional score network for one noise level.

    The image is halved by the mean of 2 x 2 pixels and doubled again by repeating pixels. There is no
    normalisation and no connection across.
    """

    def __init__(self, *, channels: int, image_size: int, width: int) -> None:
        """
        Args:
            channels: C of the images.
            image_size: H = W in pixels, a multiple of 4.
            width: filters of the first block; 32 in the paper.

        Raises:
            UserError: an image that cannot be halved twice.
        """
        super().__init__()
        if image_size % 4:
            raise UserError(f"image_size is {image_size}: the auto-encoder needs a multiple of 4.")
        filters = [width * factor for factor in FILTERS]
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.ModuleList(map(EluBlock, [width, *filters], filters))
        self.up = nn.ModuleList(map(EluBlock, [filters[-1], *filters[::-1]], filters[::-1]))
        self.last = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """A score of images in [0, 1], (B, C, H, W), of that shape; sigma is not used."""
        h: Tensor = self.first(2 * x - 1)
        for i, block in enumerate(self.down):
            h = block(F.avg_pool2d(h, 2) if i in HALVED else h)
        for i, block in zip(reversed(range(len(FILTERS))), self.up, strict=True):
            h = block(h)
            h = F.interpolate(h, scale_factor=2.0) if i in HALVED else h
        out: Tensor = self.last(F.elu(h))
        return out
