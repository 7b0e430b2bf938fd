"""Blocks of the U-Net: the noise embedding, a residual block modulated by it, and self-attention.

References:
    J. Ho et al., "Denoising Diffusion Probabilistic Models", arXiv 2006.11239.
    Y. Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations" (NCSN++),
        arXiv 2011.13456, appendix H.
    P. Dhariwal, A. Nichol, "Diffusion Models Beat GANs on Image Synthesis", arXiv 2105.05233.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_HALF = math.sqrt(0.5)
_HIGHEST = 16.0
_HEAD = 64


class NoiseEmbedding(nn.Module):
    """A noise level as a vector: sinusoids of frequencies 1 to 16, then two linear layers with SiLU."""

    frequencies: Tensor

    def __init__(self, length: int) -> None:
        """
        Args:
            length: E, of the vector, even.
        """
        super().__init__()
        spaced = torch.linspace(0, math.log(_HIGHEST), length // 2).exp()
        self.register_buffer("frequencies", spaced, persistent=False)
        self.layers = nn.Sequential(nn.Linear(length, length), nn.SiLU(), nn.Linear(length, length), nn.SiLU())

    def forward(self, c_noise: Tensor) -> Tensor:
        """c_noise, (n,), of order one, to (n, E)."""
        phase = c_noise[:, None] * self.frequencies
        vector: Tensor = self.layers(torch.cat([phase.cos(), phase.sin()], dim=1))
        return vector


class Pointwise(nn.Linear):
    """A 1 x 1 convolution as the matrix product it is, which a CPU does in a third of the time."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H, W), channels last in memory."""
        return F.linear(x.movedim(1, -1), self.weight, self.bias).movedim(-1, 1)


def conv(channels_in: int, channels_out: int, kernel_size: int) -> nn.Module:
    """A convolution that keeps the image's size; of 1 x 1 or 3 x 3 pixels."""
    if kernel_size == 1:
        return Pointwise(channels_in, channels_out)
    return nn.Conv2d(channels_in, channels_out, kernel_size, padding=kernel_size // 2)


class UNetBlock(nn.Module):
    """Normalise, SiLU, convolve; normalise, scale and shift by the noise, SiLU, convolve; plus a shortcut.

    It begins as the shortcut alone, since its last convolution begins at zero; the sum is divided by sqrt(2),
    which keeps its variance.
    """

    def __init__(self, channels_in: int, channels_out: int, embedding: int, *, down: bool, kernel_size: int) -> None:
        """
        Args:
            channels_in, channels_out: of its input and output.
            embedding: E of the noise embedding.
            down: it halves the image.
            kernel_size: of its convolutions, 1 or 3.
        """
        super().__init__()
        self.down = down
        self.norm1 = norm(channels_in, kernel_size)
        self.conv1 = conv(channels_in, channels_out, kernel_size)
        self.modulation = nn.Linear(embedding, 2 * channels_out)
        self.norm2 = norm(channels_out, kernel_size, affine=False)
        self.conv2 = zeroed(conv(channels_out, channels_out, kernel_size))
        same = channels_in == channels_out
        self.shortcut = nn.Identity() if same else Pointwise(channels_in, channels_out)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x, (B, C, H, W), and the embedding, (B, E) or (1, E), to (B, C', H, W) or (B, C', H/2, W/2)."""
        h = F.silu(self.norm1(x))
        if self.down:
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, self.norm2(self.conv1(h)), scale + 1)
        out: Tensor = (self.shortcut(x) + self.conv2(F.silu(h))) * _HALF
        return out


class SelfAttention(nn.Module):
    """Every pixel attends to all of its image, in heads of 64 channels; plus a shortcut.

    It begins as the shortcut alone, divided by sqrt(2).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = math.gcd(channels, max(1, channels // _HEAD))
        self.norm = norm(channels, 3)
        self.qkv = Pointwise(channels, 3 * channels)
        self.out = zeroed(Pointwise(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        # (B, 3C, H, W) -> three of (B, heads, H W, C / heads)
        query, key, value = self.qkv(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, -1)).mT.unbind(1)
        attended = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = (x + self.out(attended.mT.reshape(x.shape))) * _HALF
        return out


def norm(channels: int, kernel_size: int, affine: bool = True) -> nn.GroupNorm:
    """Group normalisation next to a convolution: at most 32 groups, of at least 4 channels.

    Next to a 1 x 1 convolution, which works on images of one pixel, all channels are one group: of a group
    of four numbers little is left but their order.
    """
    groups = 1 if kernel_size == 1 else math.gcd(channels, max(1, min(32, channels // 4)))
    return nn.GroupNorm(groups, channels, affine=affine)


def zeroed(module: nn.Module) -> nn.Module:
    """The module with all its weights at zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module
