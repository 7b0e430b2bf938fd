"""A noise-conditional U-Net with EDM's preconditioning: the default for quality per second.

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
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from ..score import match
from .unet_blocks import (
    NoiseEmbedding,
    Pointwise,
    ResidualBlock,
    SelfAttention,
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
class Layout:
    """The resolutions of a U-Net, finest first, each half the one before."""

    multiples: Sequence[int]
    """Channels of each over the network's width."""
    blocks: Sequence[int]
    """Residual blocks of each on the way down, and as many on the way up."""
    attention: Sequence[int]
    """Sizes in pixels of those with self-attention after each block."""
    patch: int = 1
    """The first convolution sees squares of so many pixels a side, each as one pixel of more channels."""


_PRESETS = {  # up to this size in pixels
    8: Layout((1,), (2,), (), patch=8),
    32: Layout((1, 2, 2), (2, 2, 2), (7, 8)),
    64: Layout((1, 2, 3, 4), (1, 2, 3, 3), (8, 16)),
}


def layout(
    image_size: int,
    multiples: Sequence[int] | None = None,
    blocks: Sequence[int] | None = None,
    attention: Sequence[int] | None = None,
    patch: int | None = None,
) -> Layout:
    """The layout for an image size: what is given, and the preset for the rest.

    The preset for 8 x 8 is one patch: residual layers on all 64 pixels at once. On the digits, after a minute
    of training on one core, its FID is 1.3 where the layouts with convolutions that were tried have 11 to 17.

    Raises:
        UserError: above 64 pixels with anything left out, lists of different lengths or with values below 1,
            or a size that cannot be halved evenly.
    """
    options = {"multiples": multiples, "blocks": blocks, "attention": attention, "patch": patch}
    given: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    preset = next((known for limit, known in _PRESETS.items() if image_size <= limit), None)
    if preset is None and len(given) < len(options):
        raise UserError(
            f"image_size is {image_size}: the network 'unet' has presets up to {max(_PRESETS)} pixels: "
            f"give {', '.join(f'network.{key}' for key in options)}."
        )
    chosen = replace(preset or Layout((), (), ()), **given)
    _check(chosen, image_size)
    return chosen


def _check(chosen: Layout, image_size: int) -> None:
    counts = [*chosen.multiples, *chosen.blocks]
    if len(chosen.multiples) != len(chosen.blocks) or not counts or min(counts) < 1:
        raise UserError(
            f"network.multiples is {list(chosen.multiples)} and network.blocks {list(chosen.blocks)}: "
            "give as many of one as of the other, each at least 1."
        )
    factor = chosen.patch * 2 ** (len(chosen.blocks) - 1)
    if chosen.patch < 1 or image_size < 1 or image_size % factor:
        raise UserError(
            f"image_size is {image_size}: {len(chosen.blocks)} resolutions of patches of {chosen.patch} need "
            f"one divisible by {factor}: change network.multiples and network.blocks, or network.patch."
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
        width: int,
        layout: Layout,
        sigmas: Sequence[float] | Tensor | None = None,
    ) -> None:
        """See `pipeline.ncsn.networks.make_network`.

        Raises:
            UserError: a number of channels below 1, or a width below 2.
        """
        super().__init__()
        if channels < 1 or width < 2:
            raise UserError(f"network has channels {channels} and width {width}: it needs at least 1 and 2.")
        self.patch = layout.patch
        widths = [width * multiple for multiple in layout.multiples]
        sizes = [image_size // layout.patch // 2**k for k in range(len(widths))]
        kernels = [3 if size > 1 else 1 for size in sizes]

        def stage(k: int, channels_in: int, *, down: bool) -> "_Stage":
            attention, blocks = sizes[k] in layout.attention, layout.blocks[k]
            return _Stage(
                channels_in, widths[k], blocks, down=down, attention=attention, kernel_size=kernels[k]
            )

        pixel = channels * layout.patch**2
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
            self.blocks.append(
                ResidualBlock(first, channels_out, EMBEDDING, down=halves, kernel_size=kernel_size)
            )
            self.attention.append(SelfAttention(channels_out) if attention else nn.Identity())

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H, W), or half of H and W."""
        for block, attend in zip(self.blocks, self.attention, strict=True):
            x = attend(block(x, embedding))
        return x
