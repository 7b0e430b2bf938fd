"""Bytes of images, from samples with pixels in [0, 1]."""

import torch
from torch import Tensor

from .errors import UserError


def to_uint8(x: Tensor) -> Tensor:
    """Pixels in [0, 1] as bytes: clamped, times 255, rounded to the nearest (never truncated).

    Args:
        x: images, any shape.

    Returns:
        uint8 of the same shape.

    Raises:
        UserError: values that are NaN or infinite, as a diverged sampler gives.
    """
    if not bool(torch.isfinite(x).all()):
        raise UserError("The samples hold NaN or infinity: Langevin dynamics diverged; lower `step_size`.")
    return (x.clamp(0, 1) * 255 + 0.5).floor().to(torch.uint8)
