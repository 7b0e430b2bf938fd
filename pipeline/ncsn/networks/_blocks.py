"""Blocks of the RefineNets: residual blocks on the way down, refine blocks on the way up.

Every block is called as `block(x, level)`; the level reaches the normalisations, which ignore it in the
unconditional network. Names of modules are those of the authors' released networks
(arXiv 1907.05600, 2006.09011), so that their weights can be mapped.

References:
    G. Lin et al., "RefineNet", arXiv 1611.06612.
"""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ._normalization import Rows

Level = Tensor | Rows | None
"""Noise levels, int64 (B,) or (1,), or what each normalisation has of them; None: an unconditional network's."""
Norm = Callable[[int], nn.Module]
"""Makes the normalisation of a number of channels."""


class ConvMeanPool(nn.Module):
    """A convolution, then the mean over 2 x 2 pixels: (B, C, H, W) to (B, C', H/2, W/2).

    Both are one convolution of stride 2 whose kernel is the given one averaged over the four shifts.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel_size, padding=kernel_size // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and pool x, (B, C, H, W)."""
        kernel = F.avg_pool2d(F.pad(self.conv.weight, (1, 1, 1, 1)), 2, stride=1)
        return F.conv2d(x, kernel, self.conv.bias, stride=2, padding=self.conv.padding[0])


class ResidualBlock(nn.Module):
    """Pre-activation residual block: normalise, ELU, convolve, twice; plus a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, norm: Norm, *, down: bool, dilation: int) -> None:
        """
        Args:
            channels_in, channels_out: of its input and output, different only where `down`.
            norm: makes its normalisations.
            down: begins a cascade: it changes the channels, and halves the image where it is not dilated.
            dilation: of its 3 x 3 convolutions; above 1 it takes the place of down-sampling.
        """
        super().__init__()
        pool = down and dilation == 1
        self.normalize1 = norm(channels_in)
        self.conv1 = _conv3x3(channels_in, channels_in, dilation)
        self.normalize2 = norm(channels_in)
        self.conv2 = (
            ConvMeanPool(channels_in, channels_out, 3) if pool else _conv3x3(channels_in, channels_out, dilation)
        )
        if pool:
            self.shortcut: nn.Module = ConvMeanPool(channels_in, channels_out, 1)
        elif down:
            self.shortcut = _conv3x3(channels_in, channels_out, dilation)
        else:
            self.shortcut = nn.Identity()

    def forward(self, x: Tensor, level: Level) -> Tensor:
        """(B, C, H, W) to (B, C', H, W) or (B, C', H/2, W/2)."""
        h: Tensor = self.conv1(self.normalize1(x, level, elu=True))
        h = self.conv2(self.normalize2(h, level, elu=True))
        return h.add_(self.shortcut(x))


class RCUBlock(nn.Module):
    """Residual convolution units: blocks of two (normalise, ELU, 3 x 3 convolution), each added to its input."""

    def __init__(self, channels: int, blocks: int, norm: Norm) -> None:
        super().__init__()
        self.blocks = blocks
        for i in range(1, blocks + 1):
            for j in (1, 2):
                self.add_module(f"{i}_{j}_norm", norm(channels))
                self.add_module(f"{i}_{j}_conv", _conv3x3(channels, channels, bias=False))

    def forward(self, x: Tensor, level: Level) -> Tensor:
        """(B, C, H, W) to the same shape."""
        for i in range(1, self.blocks + 1):
            h = x
            for j in (1, 2):
                h = self.get_submodule(f"{i}_{j}_conv")(self.get_submodule(f"{i}_{j}_norm")(h, level, elu=True))
            x = h.add_(x)
        return x


class CRPBlock(nn.Module):
    """Chained residual pooling: stages of (normalise, 5 x 5 pool, 3 x 3 convolution), each added up."""

    def __init__(self, channels: int, stages: int, norm: Norm, pool: nn.Module) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_conv3x3(channels, channels, bias=False) for _ in range(stages))
        self.norms = nn.ModuleList(norm(channels) for _ in range(stages))
        self.pool = pool

    def forward(self, x: Tensor, level: Level) -> Tensor:
        """(B, C, H, W) to the same shape."""
        x = F.elu(x)
        path = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            path = conv(self.pool(norm(path, level)))
            x = x + path
        return x


class MSFBlock(nn.Module):
    """Multi-resolution fusion: normalise, convolve, resize to one size, add up."""

    def __init__(self, channels_in: Sequence[int], channels_out: int, norm: Norm) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_conv3x3(channels, channels_out) for channels in channels_in)
        self.norms = nn.ModuleList(norm(channels) for channels in channels_in)

    def forward(self, xs: Sequence[Tensor], level: Level) -> Tensor:
        """Inputs, each (B, C_k, H_k, W_k), to (B, C', H, W) of the first one's size."""
        size = xs[0].shape[-2:]
        parts = zip(xs, self.norms, self.convs, strict=True)
        first, *rest = [_resize(conv(norm(x, level)), size) for x, norm, conv in parts]
        for part in rest:
            first = first + part
        return first


class RefineBlock(nn.Module):
    """A cascade's way up: adapt each input, fuse them, pool in a chain, convolve."""

    def __init__(
        self,
        channels_in: Sequence[int],
        channels_out: int,
        norm: Norm,
        pool: nn.Module,
        *,
        adapt: int,
        chain: int,
        output: int,
    ) -> None:
        """
        Args:
            channels_in: of this cascade's features and, but for the coarsest, the coarser refine block's.
            channels_out: of the output.
            norm: makes its normalisations.
            pool: its 5 x 5 pooling of stride 1.
            adapt: residual units on each input.
            chain: poolings in the chain.
            output: residual units at the end.
        """
        super().__init__()
        self.adapt_convs = nn.ModuleList(RCUBlock(channels, adapt, norm) for channels in channels_in)
        if len(channels_in) > 1:
            self.msf = MSFBlock(channels_in, channels_out, norm)
        self.crp = CRPBlock(channels_out, chain, norm, pool)
        self.output_convs = RCUBlock(channels_out, output, norm)

    def forward(self, xs: Sequence[Tensor], level: Level) -> Tensor:
        """Inputs, finest first, to (B, C', H, W) of the first one's size."""
        adapted = [adapt(x, level) for adapt, x in zip(self.adapt_convs, xs, strict=True)]
        h = self.msf(adapted, level) if len(adapted) > 1 else adapted[0]
        out: Tensor = self.output_convs(self.crp(h, level), level)
        return out


def _conv3x3(channels_in: int, channels_out: int, dilation: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, padding=dilation, dilation=dilation, bias=bias)


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)
