"""FID at infinity: extrapolated to remove the bias of a finite number of samples."""

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.fid import Moments, distance, moments, subset_moments

_RANK = 2
"""The fewest samples behind a FID, in dimensions: nearer to one the bias is not linear in 1/N."""


def fid_infinity(
    features: NDArray[np.floating],
    reference: Moments,
    *,
    points: int,
    stderr: float,
    seed: int,
    own: Moments | None = None,
) -> dict[str, float | str | None]:
    """FID extrapolated to infinitely many samples (M. J. Chong, D. Forsyth, arXiv 1911.07023).

    FID is biased upwards by a term in 1/N and terms in 1/N^2. It is taken of random subsets of N samples,
    N evenly spaced from a tenth of them (at least 2 D, where the published 5,000 of 50,000 lie too) to
    all; the intercept of the least squares line in 1/N is the FID at infinity. The reference keeps its
    own size. The paper draws points of a Sobol sequence to steady the line, which needs the generator.

    Args:
        features: (n, D) of the samples.
        reference: moments of the real images' features.
        points: how many N, at least 3.
        stderr: `standard_error` of the FID of all samples.
        seed: of the subsets.
        own: `moments(features)`, where they are known; they are those of the last subset, which is all.

    Returns:
        fid_infinity; fid_infinity_stderr: the intercept's standard error from the scatter about the line,
        and `stderr` for the choice of the samples, which all the subsets share, in quadrature.
        Both None below 4 D samples, with fid_infinity_not_measured saying so: at so low a rank of the
        covariances the bias has no such law.
    """
    n, dim = features.shape
    if n < 2 * _RANK * dim:
        why = f"{n} samples are below the {2 * _RANK * dim} that {dim} features need for a line in 1/N"
        return {"fid_infinity": None, "fid_infinity_stderr": None, "fid_infinity_not_measured": why}
    rng, own = np.random.default_rng(seed), own or moments(features)
    counts = np.linspace(max(_RANK * dim, n // 10), n, points).round().astype(int)
    subsets = [rng.permutation(n)[:count] for count in counts[:-1]]
    fids = [distance(subset_moments(features, rows, own), reference) for rows in subsets] + [distance(own, reference)]
    (_, intercept), covariance = np.polyfit(1 / counts, fids, 1, cov=True)
    both = math.hypot(covariance[1, 1] ** 0.5, stderr)
    return {"fid_infinity": float(intercept), "fid_infinity_stderr": both}
