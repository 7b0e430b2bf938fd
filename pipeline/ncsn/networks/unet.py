"""U-Net conditional on the noise, with EDM's preconditioning: the best network here for its cost.

In the line of NCSN++ (arXiv 2011.13456) and EDM (arXiv 2206.00364), but cheaper: the features of a
resolution are added to those that come up from the coarser one, where NCSN++ stacks them block by block;
and small images may be cut into patches.

References:
    T. Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models",
        arXiv 2206.00364, table 1 and equation 7.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from ..score import match
from ._refinenet import check_channels, check_width
from ._unet_blocks import (
    NoiseEmbedding,
    Pointwise,
    SelfAttention,
    UNetBlock,
    conv,
    norm,
    zeroed,
)

SIGMA_DATA = 0.5
"""EDM's standard deviation of the data, for pixels in [-1, 1]."""
EMBEDDING = 128
"""The length of the noise embedding."""
_HALF = math.sqrt(0.5)


@dataclass(frozen=True)
class UNetSettings:
    """A U-Net for any noise level; what is None is chosen by the image size.

    Its resolutions are listed finest first, each half the one before.
    """

    width: int
    """Channels that `multiples` multiply."""
    multiples: tuple[int, ...] | None = None
    """Channels of each resolution over the width."""
    blocks: tuple[int, ...] | None = None
    """Residual blocks of each on the way down, and as many on the way up."""
    attention: tuple[int, ...] | None = None
    """Sizes in pixels of the resolutions with self-attention after each block."""
    patch: int | None = None
    """The first convolution sees squares of this many pixels a side, each as one pixel of more channels."""

    conditional_on_levels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_width(self.width)
        both = self.multiples is not None and self.blocks is not None
        counts = [*(self.multiples or ()), *(self.blocks or ())]
        if both and (len(self.multiples or ()) != len(self.blocks or ()) or not counts):
            raise UserError(
                f"multiples is {list(self.multiples or ())} and blocks {list(self.blocks or ())}: "
                "give as many of one as of the other, each at least 1."
            )
        if min([*counts, self.patch or 1]) < 1:
            raise UserError(f"multiples, blocks and patch must be at least 1, found {counts}, {self.patch}.")

    def check_size(self, image_size: int) -> None:
        """Refuse a size that `build` would, without building: UserError."""
        self.layout(image_size)

    def build(self, channels: int, image_size: int, sigmas: Sequence[float] | Tensor | None) -> nn.Module:
        """A `UNet` with random weights; it keeps the ladder `sigmas`, (L,), if there is one.

        Raises:
            UserError: see `layout`, or images without channels.
        """
        check_channels(channels)
        return UNet(channels=channels, image_size=image_size, layout=self.layout(image_size), sigmas=sigmas)

    def layout(self, image_size: int) -> "UNetSettings":
        """These settings with the preset for an image size where they are None.

        The preset for 8 x 8 is one patch: residual layers on all 64 pixels at once. On the digits, after a
        minute of training on one core, its FID is 1.3 where the layouts with convolutions that were tried
        have 11 to 17.

        Raises:
            UserError: above 64 pixels with anything left out, or a size that cannot be halved evenly.
        """
        preset = next((known for limit, known in _PRESETS.items() if image_size <= limit), {})
        given = {name: getattr(self, name) for name in _LAYOUT}
        missing = [name for name, value in given.items() if value is None and name not in preset]
        if missing:
            raise UserError(
                f"image_size is {image_size}: the network 'unet' has presets up to {max(_PRESETS)} pixels: "
                f"give {', '.join(missing)}."
            )
        whole = replace(self, **(preset | {key: value for key, value in given.items() if value is not None}))
        _check_size(whole, image_size)
        return whole


_LAYOUT = ("multiples", "blocks", "attention", "patch")
_PRESETS: dict[int, dict[str, Any]] = {  # up to this size in pixels
    8: {"multiples": (1,), "blocks": (2,), "attention": (), "patch": 8},
    32: {"multiples": (1, 2, 2), "blocks": (2, 2, 2), "attention": (7, 8), "patch": 1},
    64: {"multiples": (1, 2, 3, 4), "blocks": (1, 2, 3, 3), "attention": (8, 16), "patch": 1},
}


def _check_size(whole: UNetSettings, image_size: int) -> None:
    resolutions, patch = len(whole.blocks or ()), whole.patch or 1
    factor = patch * 2 ** (resolutions - 1)
    if image_size < 1 or image_size % factor:
        raise UserError(
            f"image_size is {image_size}: {resolutions} resolutions of patches of {patch} need one divisible "
            f"by {factor}: change network.multiples and network.blocks, or network.patch."
        )


class UNet(nn.Module):
    """EDM's denoiser D(y; s) = c_skip y + c_out F(c_in y; c_noise), returned as a score.

    With images x in [0, 1] and their noise sigma, y = 2x - 1 and s = 2 sigma. F begins at zero.

    Attributes:
        sigmas: the ladder it is trained on, (L,), a buffer for the sampler's use; None if not given.
    """

    sigmas: Tensor | None

    def __init__(
        self,
        *,
        channels: int,
        image_size: int,
        layout: UNetSettings,
        sigmas: Sequence[float] | Tensor | None = None,
    ) -> None:
        """See `UNetSettings`; `layout` has no None."""
        super().__init__()
        multiples, block_counts = layout.multiples or (), layout.blocks or ()
        self.patch = layout.patch or 1
        widths = [layout.width * multiple for multiple in multiples]
        sizes = [image_size // self.patch // 2**k for k in range(len(widths))]
        kernels = [3 if size > 1 else 1 for size in sizes]

        def stage(k: int, channels_in: int, *, down: bool) -> "_Stage":
            attention, blocks = sizes[k] in (layout.attention or ()), block_counts[k]
            return _Stage(channels_in, widths[k], blocks, down=down, attention=attention, kernel_size=kernels[k])

        pixel = channels * self.patch**2
        self.embed = NoiseEmbedding(EMBEDDING)
        self.gain = zeroed(nn.Linear(EMBEDDING, pixel))
        self.begin_conv = conv(pixel, widths[0], kernels[0])
        self.down = nn.ModuleList(stage(k, widths[max(k - 1, 0)], down=k > 0) for k in range(len(widths)))
        self.up = nn.ModuleList(stage(k, widths[k], down=False) for k in range(len(widths)))
        self.merge = nn.ModuleList(Pointwise(*pair) for pair in zip(widths[1:], widths, strict=False))
        self.norm = norm(widths[0], kernels[0])
        self.end_conv = zeroed(conv(widths[0], pixel, kernels[0]))
        ladder = None if sigmas is None else torch.as_tensor(sigmas, dtype=torch.float32).clone()
        self.register_buffer("sigmas", ladder)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The score of images in [0, 1], (B, C, H, W), at any sigma, () or (B,).

        (D - y) / s^2 in EDM's units is c_in (SIGMA_DATA F / s - c_in y) once c_skip and c_out are put in:
        nothing large is subtracted from its like, however small or large sigma is. The 2 is dy/dx.
        """
        s = 2 * match(sigma, x)
        c_in = (s.square() + SIGMA_DATA**2).rsqrt()
        scaled = c_in * (2 * x - 1)
        return 2 * c_in * (SIGMA_DATA / s * self.raw(scaled, s.flatten().log() / 4) - scaled)

    def raw(self, scaled: Tensor, c_noise: Tensor) -> Tensor:
        """F: inputs of unit variance, (B, C, H, W), and c_noise, (B,) or (1,), to the inputs' shape.

        A gain on the inputs, a number for each noise level and each pixel of a patch, is added to what the
        blocks give: it learns what SIGMA_DATA misses of the data's own spread, which a network can pass on
        only through all of its normalisations.
        """
        embedding = self.embed(c_noise)
        patches = F.pixel_unshuffle(scaled, self.patch)
        h = self.begin_conv(patches)
        if h.device.type == "cpu":  # the rest keeps this layout, in which a CPU convolves faster
            h = h.contiguous(memory_format=torch.channels_last)
        features = []
        for stage in self.down:
            h = stage(h, embedding)
            features.append(h)
        h = self.up[-1](h, embedding)
        for k in reversed(range(len(self.merge))):
            h = (F.interpolate(self.merge[k](h), scale_factor=2.0) + features[k]) * _HALF
            h = self.up[k](h, embedding)
        out: Tensor = self.end_conv(F.silu(self.norm(h))) + self.gain(embedding)[:, :, None, None] * patches
        return F.pixel_shuffle(out, self.patch)


class _Stage(nn.Module):
    """The residual blocks of one resolution, one way, each with attention behind it where it is wanted."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        blocks: int,
        *,
        down: bool,
        attention: bool,
        kernel_size: int,
    ) -> None:
        """The first block takes `channels_in` and, where `down`, halves the image."""
        super().__init__()
        self.blocks, self.attention = nn.ModuleList(), nn.ModuleList()
        for k in range(blocks):
            first = channels_out if k else channels_in
            halves = down and k == 0
            self.blocks.append(UNetBlock(first, channels_out, EMBEDDING, down=halves, kernel_size=kernel_size))
            self.attention.append(SelfAttention(channels_out) if attention else nn.Identity())

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H, W), or half of H and W."""
        for block, attend in zip(self.blocks, self.attention, strict=True):
            x = attend(block(x, embedding))
        return x
