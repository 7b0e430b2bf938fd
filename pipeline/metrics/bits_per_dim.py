"""Bits per dimension of held-out images under a trained network's probability-flow ODE."""

import contextlib
import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.metrics.deterministic import exact
from pipeline.metrics.features import Images
from pipeline.ncsn.likelihood import bits_per_dim
from pipeline.ncsn.networks import conditional_on_levels
from pipeline.ncsn.nfe import CountEvaluations
from pipeline.ncsn.noise import geometric_sigmas
from pipeline.ncsn.rng import SampleNoise
from pipeline.progress import reported

if TYPE_CHECKING:
    from pipeline.metrics.measures import Values

_BATCH = 64
_CELL = 1 / 256
"""The width of a stored grey level. Below such a noise a network that was trained on bytes as they are knows
spikes narrower than the cells that the images are spread over, and its density there means nothing."""


def likelihood(
    network: nn.Module, images: Images, *, num_images: int, num_levels: int, seed: int, device: str = "cpu"
) -> "Values":
    """Bits/dim of images drawn from a held-out set: `pipeline.ncsn.likelihood.bits_per_dim`.

    The law is the one the ODE makes of N(1/2, sigma_1^2 I), from the network's largest noise down to its
    smallest or a grey level (1/256), whichever is larger: a density whatever the network, so the number is
    an upper bound on the length of a code that could be written. It needs a score between the levels, as
    'unet' has it by training and 'ncsnv2' by its form s(x) / sigma; 'ncsn' has none.

    Args:
        network: with its ladder `sigmas`, (L,).
        images: held out, uint8 (N, C, H, W).
        num_images: how many are drawn of them, or all; image k has its own noise, from (seed, k).
        num_levels: of the ODE's own ladder; it takes 4 (num_levels - 1) evaluations and gradients.

    Returns:
        mean, stderr (over images; the noise of dequantisation and trace is in it), n, nfe, how; or
        not_measured with the reason.
    """
    if conditional_on_levels(network):
        return {"not_measured": "this network is conditional on its levels, and the ODE asks between them"}
    ladder = getattr(network, "sigmas", None)
    if not isinstance(ladder, Tensor):
        return {"not_measured": "this network carries no ladder of noise levels"}
    sigma_max, sigma_min = float(ladder[0]), max(float(ladder[-1]), _CELL)
    drawn = np.random.default_rng(seed).permutation(len(images))[:num_images]
    counted = CountEvaluations(network.to(device))
    sigmas = geometric_sigmas(sigma_max, sigma_min, num_levels)
    bits = _bits(counted, images, np.sort(drawn), sigmas, seed, device)
    n = len(bits)
    return {
        "mean": float(bits.mean()),
        "stderr": float(bits.std() / math.sqrt(n)) if n > 1 else None,
        "n": n,
        "nfe": counted.nfe // math.ceil(n / _BATCH),
        "how": _how(sigma_max, sigma_min, num_levels, len(np.unique(images))),
    }


def _bits(score: CountEvaluations, images: Images, drawn: np.ndarray, sigmas: Tensor, seed: int, device: str) -> Tensor:
    found = []
    with exact(0) if device == "cpu" else contextlib.nullcontext():
        batches = range(0, len(drawn), _BATCH)
        for start in reported("batches of bits / dim", batches, len(batches)):
            index = drawn[start : start + _BATCH]
            rng = SampleNoise(seed, index.tolist(), images.shape[1:], device)
            found.append(bits_per_dim(score, torch.from_numpy(images[index]).to(device), sigmas, rng))
    return torch.cat(found).cpu()


def _how(sigma_max: float, sigma_min: float, num_levels: int, grey_levels: int) -> str:
    """What the number means, in a sentence or two for a table's footnote."""
    said = (
        f"bits a byte under the probability-flow ODE, sigma {sigma_max:.4g} to {sigma_min:.4g} in "
        f"{num_levels - 1} steps of RK4, prior N(1/2, sigma_max^2), divergence by one Rademacher probe an "
        "image, bytes dequantised uniformly in 256 levels."
    )
    if grey_levels == 256:
        return said
    plain = math.log2(grey_levels)
    return (
        f"{said} These images use {grey_levels} of the 256, which {plain:.2f} bits name without any model, "
        "so it compares with no data set of 256 levels."
    )
