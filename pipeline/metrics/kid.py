"""KID: the kernel distance between two sets of features."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.memmap import release
from pipeline.metrics.deterministic import exact


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
        subset_size: examples drawn from either side, without replacement.
    """
    with exact(seed):
        values = torch.stack(
            [_mmd(_drawn(reference, subset_size), _drawn(features, subset_size)) for _ in range(subsets)]
        )
    return float(values.mean()), float(values.std(unbiased=False))


def _mmd(x: Tensor, y: Tensor) -> Tensor:
    """The unbiased squared maximum mean discrepancy of (n, D) and (n, D)."""
    n, dim = x.shape
    xx, yy, xy = (((a @ b.T) / dim + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within = xx.sum() - xx.diagonal().sum() + yy.sum() - yy.diagonal().sum()
    return within / (n * (n - 1)) - 2 * xy.mean()


def _drawn(features: NDArray[np.floating], size: int) -> Tensor:
    """`size` of the features, float64, drawn without replacement by torch's generator."""
    rows = np.array(features[torch.randperm(len(features))[:size].numpy()], dtype=np.float64)
    release(features)
    return torch.from_numpy(rows)
