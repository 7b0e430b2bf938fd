"""The kernel distance between two sets of features."""

import warnings

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.metrics.exact import exact
from pipeline.metrics.fidelity import without_torchvision

with without_torchvision():
    from torchmetrics.image.kid import KernelInceptionDistance


def kernel_distance(
    features: NDArray[np.floating],
    reference: NDArray[np.floating],
    *,
    subsets: int,
    subset_size: int,
    seed: int,
) -> tuple[float, float]:
    """KID (arXiv 1801.01401): the mean and standard deviation over subsets of the unbiased squared MMD.

    The kernel is (x . y / D + 1)^3. A value may fall below 0: that is what unbiased means.

    Args:
        features: (n, D) with n at least `subset_size`.
        reference: (m, D) with m at least `subset_size`.
        subsets: how many pairs of subsets are drawn, from `seed`.
        subset_size: examples drawn from either side, without putting back.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*will save all extracted features")
        metric = KernelInceptionDistance(torch.nn.Identity(), subsets=subsets, subset_size=subset_size)
    metric.update(torch.from_numpy(np.asarray(reference, dtype=np.float64)), real=True)
    metric.update(torch.from_numpy(np.asarray(features, dtype=np.float64)), real=False)
    with exact(seed):
        mean, std = metric.compute()
    return float(mean), float(std)
