"""Figure 1: sliced score matching on images, without noise and with a little.

Pixels take whole grey levels, so that images have no density, and the loss no lower bound: a score that is 0
at every image may be ever steeper around it. Noise of standard deviation sigma bounds the loss by
-D / (2 sigma^2) for D pixels. On the digits the loss without noise falls and then wanders. The paper's sigma
of 0.01, 2.55 grey levels of its 8-bit images, is a sixth of a level there and changes little; with 0.16, as
many of the digits' levels, the loss falls far more evenly.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.ncsn import eager
from pipeline.ncsn.errors import UserError
from pipeline.progress import reported
from pipeline.toy.mixture import Array
from pipeline.toy.score_matching import sliced_score_matching

FILTERS = (1, 2, 2, 4, 4)
"""Of the five residual blocks down, as multiples of the first's; the five blocks up mirror them."""
HALVED = (1, 3)
"""The blocks, counted from 0, before which the image is halved: where the filters double. The paper's
places were not confirmed by any source at hand."""


class EluBlock(nn.Module):
    """ELU, 3 x 3 convolution, twice, with a shortcut: (B, C, H, W) to (B, C', H, W)."""

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


@dataclass(frozen=True)
class LossCurve:
    """The losses of one training."""

    sigma: float
    """Standard deviation of the noise added to the images, fresh at each step; 0: none."""
    losses: Array
    """(steps,): variance-reduced sliced score matching, the mean over each batch, while finite."""

    def metrics(self) -> dict[str, float]:
        """Steps with a finite loss; mean and relative standard deviation of the loss over the last fifth."""
        last = self.losses[-max(1, len(self.losses) // 5) :].astype(np.float64)
        return {
            "steps": len(self.losses),
            "mean": float(last.mean()),
            "fluctuation": float(last.std() / abs(last.mean())),
        }


def loss_curves(
    images: np.ndarray,
    *,
    sigmas: Sequence[float],
    width: int,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int,
) -> tuple[LossCurve, ...]:
    """Train the residual auto-encoder once a sigma: from the same weights, on the same draws.

    Args:
        images: uint8 (N, C, H, W); value v stands for v / 255.
        sigmas: of the noise, in the unit of pixels in [0, 1].
        width: filters of the first residual block; 32 in the paper.
        steps: of each training; 50,000 in the paper.
        batch_size: 128 in the paper.
        lr: Adam's; 1e-3 in the paper.
        seed: of everything random.

    Raises:
        UserError: images whose side is no multiple of 4.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = AutoEncoder(channels=images.shape[1], image_size=images.shape[-1], width=width)

    curves = []
    for sigma in sigmas:
        draws = _draws(images, steps, batch_size, seed)
        curves.append(LossCurve(sigma, _losses(copy.deepcopy(network), draws, sigma, lr, steps)))
    return tuple(curves)


def _losses(
    network: AutoEncoder, draws: Iterator[tuple[Tensor, Tensor, Tensor]], sigma: float, lr: float, steps: int
) -> Array:
    """The loss of each step of Adam on (images, noise, projection), to the first that is not finite."""
    optimiser = eager.EagerAdam(network.parameters(), lr=lr, fused=True)
    losses: list[float] = []
    for x, noise, projection in reported(f"figure 1 at sigma {sigma:g}, steps", draws, steps):
        x_tilde = x + sigma * noise
        loss = sliced_score_matching(network, x_tilde, torch.tensor(sigma), projection, variance_reduced=True).mean()
        if not loss.isfinite():
            break
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return np.array(losses, dtype=np.float32)


def _draws(images: np.ndarray, steps: int, batch_size: int, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Images in [0, 1], noise and projections of each step, (B, C, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(len(images), (batch_size,), generator=generator).numpy()
        x = torch.from_numpy(images[rows]).float() / 255
        noise, projection = torch.randn(2, *x.shape, generator=generator)
        yield x, noise, projection
