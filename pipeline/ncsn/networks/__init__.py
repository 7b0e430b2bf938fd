"""Score networks, made by name."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import UserError
from .mlp import MLP
from .ncsn import NCSN
from .ncsnv2 import NCSNv2
from .unet import UNet, layout

__all__ = ["MLP", "NCSN", "NCSNv2", "UNet", "make_network"]


def make_network(
    kind: str,
    *,
    channels: int,
    image_size: int,
    width: int,
    num_levels: int | None = None,
    sigmas: Sequence[float] | Tensor | None = None,
    multiples: Sequence[int] | None = None,
    blocks: Sequence[int] | None = None,
    attention: Sequence[int] | None = None,
    patch: int | None = None,
) -> nn.Module:
    """A score network with random weights from torch's global generator (seed or fork it yourself).

    Called as `network(x, sigma)` on images in [0, 1], (B, C, H, W), it returns a score of that shape.

    Args:
        kind: "ncsn" (2019, conditional on the level), "ncsnv2" (2020, divides by sigma), "unet" (EDM's
            preconditioning, the best for its cost) or "mlp" (toy).
        channels: C of the images.
        image_size: H = W in pixels.
        width: channels of the first layer; 128 in the papers, 64 for MNIST.
        num_levels: the number of levels L, of "ncsn" alone; it may be left out where `sigmas` is given.
        sigmas: the ladder, (L,), descending, kept by all as the buffer `sigmas`; without it "ncsn" refuses
            every sigma until a state dict brings its ladder.
        multiples, blocks, attention, patch: of "unet" alone, in place of its preset for the image size: see
            `pipeline.ncsn.networks.unet.Layout`.

    Raises:
        UserError: an unknown kind, a missing ladder, one of another length, an impossible size, or an option
            of another kind.
    """
    if sigmas is not None and num_levels not in (None, len(sigmas)):
        raise UserError(f"num_levels is {num_levels}, but `sigmas` has {len(sigmas)} levels: leave out one.")
    if kind == "unet":
        chosen = layout(image_size, multiples, blocks, attention, patch)
        return UNet(channels=channels, image_size=image_size, width=width, layout=chosen, sigmas=sigmas)
    if kind != "ncsn" and num_levels is not None and sigmas is None:
        raise UserError(f"network.kind is {kind!r}: num_levels is an option of 'ncsn'.")
    if any(option is not None for option in (multiples, blocks, attention, patch)):
        raise UserError(
            f"network.kind is {kind!r}: multiples, blocks, attention and patch are options of 'unet'."
        )
    if kind == "ncsn":
        if sigmas is None and (num_levels is None or num_levels < 1):
            raise UserError(
                f"num_levels is {num_levels}: 'ncsn' is conditional on its levels: give `sigmas`, or how "
                "many there are."
            )
        sigmas = torch.full((num_levels or 0,), torch.nan) if sigmas is None else sigmas
        return NCSN(channels=channels, image_size=image_size, width=width, sigmas=sigmas)
    if kind == "ncsnv2":
        return NCSNv2(channels=channels, image_size=image_size, width=width, sigmas=sigmas)
    if kind == "mlp":
        return MLP(dim=channels * image_size**2, width=width, sigmas=sigmas)
    raise UserError(f"network.kind is {kind!r}: it must be 'unet', 'ncsn', 'ncsnv2' or 'mlp'.")
