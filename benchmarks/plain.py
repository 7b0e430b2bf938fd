"""The RefineNets written the plain way: float32, contiguous, every formula one operation after another."""

import contextlib
from collections.abc import Iterator
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.ncsn.networks import _blocks as blocks
from pipeline.ncsn.networks import _normalization as normalization
from pipeline.ncsn.networks import _refinenet as refinenet


def normalize(x: Tensor, gamma: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """InstanceNorm++ as the formula reads: instance normalisation, then the standardised means."""
    mean = x.mean((2, 3))
    contrast = (mean - mean.mean(1, keepdim=True)) / torch.sqrt(mean.var(1, keepdim=True) + 1e-5)
    h = F.instance_norm(x) + (alpha * contrast)[..., None, None]
    return gamma.reshape(-1, x.shape[1], 1, 1) * h + beta.reshape(-1, x.shape[1], 1, 1)


def conv_mean_pool(module: blocks.ConvMeanPool, x: Tensor) -> Tensor:
    """The convolution, then the mean of its four shifts."""
    h = module.conv(x)
    return (h[..., ::2, ::2] + h[..., 1::2, ::2] + h[..., ::2, 1::2] + h[..., 1::2, 1::2]) / 4


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """Within it, networks compute the plain way."""
    with (
        mock.patch.object(normalization, "normalize", normalize),
        mock.patch.object(normalization, "norm_elu", lambda *given: F.elu(normalize(*given))),
        mock.patch.object(normalization, "elu_", F.elu),
        mock.patch.object(blocks.ConvMeanPool, "forward", conv_mean_pool),
        mock.patch.object(refinenet, "CPU_LAYOUT", torch.contiguous_format),
    ):
        yield
