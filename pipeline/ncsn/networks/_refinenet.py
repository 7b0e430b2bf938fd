"""The RefineNet both families share: cascades on the way down, refine blocks on the way up."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import UserError
from ._blocks import Level, Norm, RefineBlock, ResidualBlock

CPU_LAYOUT = torch.channels_last
"""Of the features: the one in which a CPU pools and convolves faster."""


@dataclass(frozen=True)
class Cascade:
    """One resolution of the network: two residual blocks down, a refine block up."""

    down: str
    """Name of the module of its residual blocks."""
    up: str
    """Name of its refine block."""
    multiple: int
    """Its channels over the network's width."""
    dilation: int = 1
    """Of its convolutions; 1 halves the image (but in the first cascade), more keeps its size."""


@dataclass(frozen=True)
class Plan:
    """The layout of a RefineNet."""

    cascades: tuple[Cascade, ...]
    """Finest first."""
    adapt: int = 2
    """Residual units on each input of a refine block."""
    chain: int = 2
    """Poolings in its chain."""
    output: int = 3
    """Residual units at the end of the finest refine block; the others have one."""


_EIGHT = Plan(
    (Cascade("res1", "refine3", 1), Cascade("res2", "refine2", 2), Cascade("res3", "refine1", 2)),
    adapt=1,
    chain=1,
    output=1,
)
_FOUR = Plan(
    (
        Cascade("res1", "refine4", 1),
        Cascade("res2", "refine3", 2),
        Cascade("res3", "refine2", 2, 2),
        Cascade("res4", "refine1", 2, 4),
    )
)
_FIVE = Plan(
    (
        Cascade("res1", "refine5", 1),
        Cascade("res2", "refine4", 2),
        Cascade("res3", "refine3", 2),
        Cascade("res4", "refine2", 4, 2),
        Cascade("res5", "refine1", 4, 4),
    )
)
_SIX = Plan((*_FIVE.cascades[:3], Cascade("res31", "refine31", 2), *_FIVE.cascades[3:]))


def plan(image_size: int) -> Plan:
    """The layout for an image size: 4 cascades up to 64 pixels, 5 up to 128, 6 above (NCSNv2, B.1).

    Below 16 pixels it is sized for 8 x 8, and ours: three cascades, each half the size of the one before,
    for a dilation reads little but padding on so small a map; one residual unit and one pooling where the
    published networks have two or three.

    Raises:
        UserError: a size that the cascades cannot halve evenly, or below 8.
    """
    if image_size < 16:
        chosen = _EIGHT
    elif image_size <= 64:
        chosen = _FOUR
    else:
        chosen = _FIVE if image_size <= 128 else _SIX
    factor = 2 ** sum(cascade.dilation == 1 for cascade in chosen.cascades[1:])
    if image_size < 8 or image_size % factor:
        raise UserError(f"image_size is {image_size}: it must be at least 8 and divisible by {factor}.")
    return chosen


def check_width(width: int) -> None:
    """Refuse a width that leaves a normalisation over channels nothing to compare.

    Raises:
        UserError: a width below 2.
    """
    if width < 2:
        raise UserError(f"width is {width}: a network needs at least 2 channels.")


def check_channels(channels: int) -> None:
    """Refuse images without channels.

    Raises:
        UserError: a number of channels below 1.
    """
    if channels < 1:
        raise UserError(f"channels is {channels}: an image has at least 1.")


class RefineNet(nn.Module):
    """Maps images, (B, C, H, W), to as many values, with a normalisation that may know the noise level.

    What a family does with the noise level is its own: see its `forward`.
    """

    def __init__(
        self, *, channels: int, image_size: int, width: int, norm: Norm, refine_norm: Norm, pool: nn.Module
    ) -> None:
        """
        Args:
            channels: C of the images.
            image_size: their height and width in pixels; chooses the cascades.
            width: channels of the first cascade.
            norm: makes the normalisations of the residual blocks and of the end.
            refine_norm: makes those of the refine blocks.
            pool: 5 x 5 pooling of stride 1, for the refine blocks.

        Raises:
            UserError: a number of channels below 1, a width below 2, or a size it cannot halve evenly.
        """
        super().__init__()
        check_channels(channels)
        check_width(width)
        layout = plan(image_size)
        self.cascades = layout.cascades
        widths = [width * cascade.multiple for cascade in self.cascades]
        finer = [width, *widths[:-1]]
        self.begin_conv = nn.Conv2d(channels, width, 3, padding=1)
        self.normalizer = norm(width)
        self.end_conv = nn.Conv2d(width, channels, 3, padding=1)
        for k, cascade in enumerate(self.cascades):
            self.add_module(cascade.down, _down(finer[k], widths[k], norm, cascade, first=k == 0))
        for k, cascade in reversed(list(enumerate(self.cascades))):
            block = RefineBlock(
                [widths[k]] * (1 if k == len(widths) - 1 else 2),
                finer[k],
                refine_norm,
                pool,
                adapt=layout.adapt,
                chain=layout.chain,
                output=layout.output if k == 0 else 1,
            )
            self.add_module(cascade.up, block)

    def refine(self, x: Tensor, level: Level) -> Tensor:
        """Images in [0, 1], (B, C, H, W), mapped to [-1, 1] first, to a tensor of the same shape."""
        h = self.begin_conv(2 * x - 1)
        if h.device.type == "cpu":  # the rest keeps this layout
            h = h.contiguous(memory_format=CPU_LAYOUT)
        features = []
        for cascade in self.cascades:
            for block in self.get_submodule(cascade.down).children():
                h = block(h, level)
            features.append(h)
        h = self.get_submodule(self.cascades[-1].up)([h], level)
        for cascade, feature in zip(self.cascades[-2::-1], features[-2::-1], strict=True):
            h = self.get_submodule(cascade.up)([feature, h], level)
        out: Tensor = self.end_conv(self.normalizer(h, level, elu=True))
        return out


def _down(channels_in: int, channels_out: int, norm: Norm, cascade: Cascade, *, first: bool) -> nn.ModuleList:
    start = ResidualBlock(channels_in, channels_out, norm, down=not first, dilation=cascade.dilation)
    return nn.ModuleList(
        [start, ResidualBlock(channels_out, channels_out, norm, down=False, dilation=cascade.dilation)]
    )
