"""FID: the Frechet distance between two sets of features, and the moments that it is taken of."""

import dataclasses
import math
from collections.abc import Iterable
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.memmap import release
from pipeline.metrics import features as feature_spaces
from pipeline.metrics.deterministic import exact
from pipeline.ncsn.errors import UserError

SHARD = 4_000
"""Features whose moments are taken at once: a part of what fixes the bits."""
_CONDITION = 1e6
STATISTICS = "statistics.safetensors"
"""Moments by name: "train" and "held_out" of the splits; "search" of every second held-out image, which the
searches judge by and no FID of the report."""


@dataclasses.dataclass(frozen=True)
class Moments:
    """Mean m and covariance S of features (n, D), the latter as a root R with S = R^T R."""

    mean: Tensor
    """(D,) float64."""
    root: Tensor
    """(D, D) float64, or (n, D) where n < D: R of the QR decomposition of the centred features."""
    n: int


def moments(features: NDArray[np.floating], rows: NDArray[np.integer] | None = None) -> Moments:
    """Features (n, D) -> their moments, the covariance with n - 1; raises UserError for n < 2.

    Args:
        rows: which of the features, in this order; None: all. A shard of them is copied at a time.
    """
    count = len(features) if rows is None else len(rows)
    return merged(part(_shard(features, rows, start)) for start in range(0, count, SHARD))


def _shard(features: NDArray[np.floating], rows: NDArray[np.integer] | None, start: int) -> Any:
    if rows is None:
        return features[start : start + SHARD]
    taken = features[rows[start : start + SHARD]]
    release(features)
    return taken


def part(features: NDArray[np.floating]) -> Moments:
    """The moments of a shard (n, D), n at least 1, to be merged with others; of one feature the root is 0."""
    with exact(0):
        x = torch.from_numpy(np.array(features, dtype=np.float64))
        release(features)
        mean = x.mean(dim=0)
        root = torch.linalg.qr((x - mean) / max(len(x) - 1, 1) ** 0.5, mode="r").R.contiguous()
    return Moments(mean, root, len(x))


def merged(parts: Iterable[Moments]) -> Moments:
    """The moments of all shards together, merged one after the other in their order.

    Exact but for rounding: n - 1 times the covariance is the sum of that of both sides and of
    n_a n_b / n times the outer product of the means' difference with itself (T. Chan et al., 1979). The
    roots are stacked and decomposed again, so that no covariance is squared and rooted.

    Raises:
        UserError: fewer than two features in all.
    """
    whole = reduce(_merge, parts, None)
    n = whole.n if whole else 0
    if whole is None or n < 2:
        raise UserError(f"a Frechet distance needs two samples on either side, not {n}: raise their number.")
    return whole


def _merge(a: Moments | None, b: Moments) -> Moments:
    if a is None:
        return b
    n, apart = a.n + b.n, b.mean - a.mean
    weights = [(a.n - 1) / (n - 1), (b.n - 1) / (n - 1), a.n * b.n / n / (n - 1)]
    rows = [weight**0.5 * row for weight, row in zip(weights, (a.root, b.root, apart[None]), strict=True)]
    with exact(0):
        return Moments(a.mean + b.n / n * apart, torch.linalg.qr(torch.cat(rows), mode="r").R.contiguous(), n)


def subset_moments(features: NDArray[np.floating], rows: NDArray[np.integer], whole: Moments) -> Moments:
    """`moments(features, rows)` to round-off, by products in place of decompositions: half of the time or less.

    A product squares the features, which costs half the digits along directions they hardly vary in. So it
    is used where the root of the subset's covariance has a condition number below `_CONDITION`, which leaves
    sqrt(eigenvalues) an error of 1e-10 of the largest, and the plain way elsewhere.

    Args:
        features: (n, D).
        rows: the subset, in any order.
        whole: moments of all, whose condition tells beforehand what a subset's will be.
    """
    if _condition(whole.root) < _CONDITION:
        found = _by_products(features, rows, whole.mean)
        if _condition(found.root) < _CONDITION:
            return found
    return moments(features, rows)


def _by_products(features: NDArray[np.floating], rows: NDArray[np.integer], centre: Tensor) -> Moments:
    n, dim = len(rows), len(centre)
    total, gram = torch.zeros(dim, dtype=torch.float64), torch.zeros(dim, dim, dtype=torch.float64)
    with exact(0):
        for start in range(0, n, SHARD):
            x = torch.from_numpy(np.array(_shard(features, rows, start), dtype=np.float64)).sub_(centre)
            total += x.sum(dim=0)
            gram.addmm_(x.T, x)
        apart = total / n
        root, failed = torch.linalg.cholesky_ex((gram - n * apart.outer(apart)) / (n - 1), upper=True)
    return Moments(centre + apart, torch.zeros_like(root) if failed else root, n)


def _condition(root: Tensor) -> float:
    """A bound on the condition number of a root (D, D), by the norms of Frobenius; infinite where there is none."""
    if root.shape[0] < root.shape[1] or not root.diagonal().all():
        return math.inf
    with exact(0):
        inverse = torch.linalg.solve_triangular(root, torch.eye(len(root), dtype=root.dtype), upper=True)
        return float(root.norm() * inverse.norm())


def distance(a: Moments, b: Moments) -> float:
    """The squared Wasserstein-2 distance between the two Gaussians: FID.

    |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))        (arXiv 1706.08500, equation 6)

    With roots S = R^T R the eigenvalues of S_a S_b are the squared singular values of R_a R_b^T, so
    the last trace is their plain sum. Nothing is squared and rooted again: a covariance without full
    rank, which costs the usual form half its digits, does no harm here.
    """
    with exact(0):
        cross = torch.linalg.svdvals(a.root @ b.root.T).sum()
        spread = a.root.square().sum() + b.root.square().sum() - 2 * cross
        return max(0.0, float((a.mean - b.mean).square().sum() + spread))


def frechet_distance(features_a: NDArray[np.floating], features_b: NDArray[np.floating]) -> float:
    """FID between features (n, D) and (m, D), in the square of their unit; see `distance`."""
    return distance(moments(features_a), moments(features_b))


def standard_error(features: NDArray[np.floating], reference: Moments, own: Moments | None = None) -> float:
    """The standard error of FID from the choice of these samples, the reference held fixed.

    By the delta method: FID moves with a sample x, of mean m, by 2 (m - m_r) (x - m) + |x - m|^2 -
    (x - m) T (x - m) less its mean, where T = R^-1 (R S_r R^T)^(1/2) R^-T carries the samples' Gaussian
    into the reference's. Asymptotic, and on the safe side: at n of a few D it is a quarter too
    large, near FID 0 up to a half.

    Args:
        features: (n, D).
        reference: what FID is taken against.
        own: `moments(features)`, where they are known.
    """
    own = own or moments(features)
    with exact(0):
        u, s, _ = torch.linalg.svd(own.root @ reference.root.T, full_matrices=False)
        back = torch.linalg.pinv(own.root, rtol=1e-9) @ u

        def influence(shard: NDArray[np.floating]) -> Tensor:
            x = torch.from_numpy(np.array(shard, dtype=np.float64)) - own.mean
            release(shard)
            carried: Tensor = (x @ back).square() @ s
            return 2 * x @ (own.mean - reference.mean) + x.square().sum(dim=1) - carried

        starts = range(0, len(features), SHARD)
        return float(torch.cat([influence(features[k : k + SHARD]) for k in starts]).std() / own.n**0.5)


def save_moments(folder: Path, statistics: dict[str, Moments]) -> None:
    """Write moments by their names to a folder."""
    tensors: dict[str, Tensor] = {}
    for split, m in statistics.items():
        tensors |= {f"{split}.mean": m.mean, f"{split}.root": m.root, f"{split}.n": torch.tensor(m.n)}
    (folder / STATISTICS).write_bytes(safetensors.torch.save(tensors))


def load_moments(folder: Path, name: str) -> Moments:
    """The moments of "train", "held_out" or "search"; raises UserError where the file is damaged."""
    tensors = safetensors.torch.load_file(feature_spaces.verified(folder, STATISTICS))
    return Moments(tensors[f"{name}.mean"], tensors[f"{name}.root"], int(tensors[f"{name}.n"]))
