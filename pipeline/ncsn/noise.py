"""Noise ladders: geometric levels, the rules that choose them (techniques 1, 2 and 4 of NCSNv2), and EDM's.

References:
    Y. Song, S. Ermon, "Improved Techniques for Training Score-Based Generative Models", arXiv 2006.09011.
    T. Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (EDM),
        arXiv 2206.00364.
"""

import math

import torch
from torch import Tensor

from .errors import UserError

MAX_POINTS = 60_000
"""Above this many points, the largest distance is taken over a random subset."""

SUBSET = 10_000
"""The size of that subset."""

_CHUNK = 2_048
_VALUES = 2**23


def geometric_sigmas(sigma_max: float, sigma_min: float, num_levels: int) -> Tensor:
    """A geometric ladder from sigma_max down to sigma_min, both included.

    Args:
        sigma_max: largest noise standard deviation, in the unit of the pixels.
        sigma_min: smallest one.
        num_levels: the number of levels L, at least 2.

    Returns:
        (L,) float32, strictly descending, computed in float64.

    Raises:
        UserError: an end that is not positive and finite, ends not descending, or fewer than 2 levels.
    """
    log_ratio = _log_range(sigma_max, sigma_min)
    return _ladder(sigma_max * torch.exp(-log_ratio * _fractions(num_levels)))


def karras_sigmas(sigma_max: float, sigma_min: float, num_levels: int, rho: float = 7.0) -> Tensor:
    """EDM's ladder for sampling, even in sigma^(1/rho), both ends included (equation 5).

    EDM's own 0 after the last level is left to the sampler. In EDM sigma runs from 80 to 0.002 for pixels
    in [-1, 1]: 40 to 0.001 for pixels in [0, 1].

    Args:
        sigma_max: largest noise standard deviation, in the unit of the pixels.
        sigma_min: smallest one.
        num_levels: the number of levels, at least 2.
        rho: at least 1. 1 spaces the levels evenly; the larger, the denser at sigma_min, towards a
            geometric ladder.

    Returns:
        (L,) float32, strictly descending, computed in float64.

    Raises:
        UserError: a rho below 1 or infinite, and as `geometric_sigmas`.
    """
    root = math.exp(-_log_range(sigma_max, sigma_min) / _checked_rho(rho))
    return _ladder(sigma_max * (1 - (1 - root) * _fractions(num_levels)) ** rho)


def max_pairwise_distance(x: Tensor, *, seed: int = 0) -> float:
    """The largest Euclidean distance between two data points: technique 1's sigma_max.

    Over all pairs up to 60,000 points, above that over the pairs of 10,000 random ones. Works in blocks
    of at most 2,048 by 2,048 distances and 32 MB of points, so memory does not grow with N.

    Args:
        x: data, (N, *shape), of any real dtype; uint8 pixels give a distance in grey levels, which is
            255 times the one of pixels in [0, 1].
        seed: chooses the random points.

    Returns:
        The distance in the unit of x.

    Raises:
        UserError: fewer than two points.
    """
    if len(x) < 2:
        raise UserError(f"The data set has {len(x)} example(s): a distance needs at least 2.")
    if len(x) > MAX_POINTS:
        generator = torch.Generator().manual_seed(seed)
        x = x[torch.randperm(len(x), generator=generator)[:SUBSET]]
    points = x.flatten(1)
    chunk = max(1, min(_CHUNK, _VALUES // points.shape[1]))
    starts = points.split(chunk)
    return max(_block_distance(a, b) for i, a in enumerate(starts) for b in starts[i:])


def overlap(sigma_max: float, sigma_min: float, dim: int, num_levels: int) -> float:
    """The overlap C of neighbouring levels in a geometric ladder of a given length (technique 2).

    It is the chance that the radius of N(0, sigma_i^2 I), nearly N(sqrt(D) sigma_i, sigma_i^2 / 2), lies
    within three standard deviations of the radius at level i - 1. The published ladders of NCSNv2 have
    C = 0.567 (CIFAR-10: 50, 0.01, 3072, 232).

    Args:
        sigma_max: largest noise standard deviation.
        sigma_min: smallest one.
        dim: the number D of pixels times channels.
        num_levels: the length of the ladder, at least 2.

    Returns:
        C, between 0 and 1.

    Raises:
        UserError: as `geometric_sigmas`, or a dimension below 1.
    """
    geometric_sigmas(sigma_max, sigma_min, num_levels)
    _check_dim(dim)
    return _overlap(math.exp(_log_range(sigma_max, sigma_min) / (num_levels - 1)), dim)


def num_levels(sigma_max: float, sigma_min: float, dim: int, overlap: float) -> int:
    """The length of a geometric ladder whose neighbours overlap by C = `overlap` (technique 2).

    Solves Phi(sqrt(2D)(gamma - 1) + 3 gamma) - Phi(sqrt(2D)(gamma - 1) - 3 gamma) = C for the ratio
    gamma, and takes the whole number of levels nearest to it. C = 0.5 gives 219 levels for CIFAR-10, where
    the published 232 correspond to C = 0.567.

    Args:
        sigma_max: largest noise standard deviation.
        sigma_min: smallest one.
        dim: the number D of pixels times channels; at least 5, for below it every ratio overlaps.
        overlap: C, strictly between 0 and 0.9973, the overlap of equal levels.

    Returns:
        The number of levels, at least 2.

    Raises:
        UserError: a value outside these ranges, or ends that are not descending.
    """
    log_range = _log_range(sigma_max, sigma_min)
    _check_dim(dim, least=5)
    if not 0 < overlap < _overlap(1.0, dim):
        raise UserError(f"overlap is {overlap}: it must be strictly between 0 and {_overlap(1.0, dim):.4f}.")
    return max(2, 1 + round(log_range / math.log(_ratio(dim, overlap))))


def step_size(sigmas: Tensor, steps_per_level: int) -> float:
    """The Langevin step that keeps the variance of a Gaussian nearest to each level's (technique 4).

    Minimises |(1 - u)^(2T) (gamma^2 - b) + b - 1| with u = eps / sigma_L^2 and
    b = 2 eps / (sigma_L^2 - sigma_L^2 (1 - u)^2) = 1 / (1 - u / 2). The value in the bars is the variance
    after T steps over sigma_i^2, and exceeds 1 for every u in (0, 1), so the nearest is the smallest.
    Holds for the 'released' convention, x += alpha score + sqrt(2 alpha) z.

    Args:
        sigmas: a geometric ladder, (L,), descending.
        steps_per_level: T, at least 1.

    Returns:
        eps, in squared units of sigma. CIFAR-10 (L 232, T 5): 6.18e-6, published as 6.2e-6.

    Raises:
        UserError: T below 1, or a ladder that does not descend.
    """
    if steps_per_level < 1:
        raise UserError(f"steps_per_level is {steps_per_level}: it must be at least 1.")
    sigmas = torch.as_tensor(sigmas, dtype=torch.float64)
    if len(sigmas) < 2:
        raise UserError(f"The ladder has {len(sigmas)} level(s): it needs at least 2.")
    first, last = float(sigmas[0]), float(sigmas[-1])
    ratio = math.exp(_log_range(first, last) / (len(sigmas) - 1))
    return last**2 * _smallest_excess(ratio, steps_per_level)


def variance_ratio(u: Tensor, ratio: float, steps_per_level: int) -> Tensor:
    """s_T^2 / sigma_i^2 of annealed Langevin on a Gaussian, the quantity technique 4 brings nearest to 1.

    Args:
        u: eps / sigma_L^2, in (0, 2).
        ratio: gamma = sigma_{i-1} / sigma_i.
        steps_per_level: T.

    Returns:
        The variance after T steps from sigma_{i-1}^2 over sigma_i^2, of u's shape (NCSNv2, proposition 3).
    """
    stationary = 1 / (1 - u / 2)
    return (1 - u) ** (2 * steps_per_level) * (ratio**2 - stationary) + stationary


def _fractions(num_levels: int) -> Tensor:
    if num_levels < 2:
        raise UserError(f"num_levels is {num_levels}: a ladder needs at least 2 levels.")
    return torch.arange(num_levels, dtype=torch.float64) / (num_levels - 1)


def _ladder(exact: Tensor) -> Tensor:
    sigmas = exact.float()
    if not bool((sigmas.diff() < 0).all()):
        raise UserError(
            f"num_levels is {len(exact)}: too many to tell apart in float32 between sigma_max "
            f"{float(exact[0])} and sigma_min {float(exact[-1])}; use fewer."
        )
    return sigmas


def _checked_rho(rho: float) -> float:
    if not (rho >= 1 and math.isfinite(rho)):
        raise UserError(f"rho is {rho}: it must be a number of at least 1, such as 7.")
    return rho


def _smallest_excess(ratio: float, steps_per_level: int) -> float:
    low, high = -14.0, 0.0
    for _ in range(8):  # each pass narrows log10(u) a hundredfold around the best of 401
        grid = torch.linspace(low, high, 401, dtype=torch.float64)
        best = float(grid[variance_ratio(10**grid, ratio, steps_per_level).argmin()])
        width = (high - low) / 200
        low, high = best - width, min(best + width, 0.0)
    return float(10**best)


def _overlap(ratio: float, dim: int) -> float:
    shift = math.sqrt(2 * dim) * (ratio - 1)
    return _normal_cdf(shift + 3 * ratio) - _normal_cdf(shift - 3 * ratio)


def _normal_cdf(value: float) -> float:
    return math.erfc(-value / math.sqrt(2)) / 2


def _ratio(dim: int, overlap: float) -> float:
    low, high = 1.0, 2.0
    while _overlap(high, dim) > overlap:
        high *= 2
    for _ in range(100):  # bisection: the overlap falls as the ratio grows
        middle = (low + high) / 2
        low, high = (middle, high) if _overlap(middle, dim) > overlap else (low, middle)
    return (low + high) / 2


def _log_range(sigma_max: float, sigma_min: float) -> float:
    for name, value in (("sigma_max", sigma_max), ("sigma_min", sigma_min)):
        if not (value > 0 and math.isfinite(value)):
            raise UserError(f"{name} is {value}: it must be a positive number.")
    if sigma_min >= sigma_max:
        raise UserError(f"sigma_min is {sigma_min}: it must be below sigma_max, {sigma_max}.")
    return math.log(sigma_max / sigma_min)


def _check_dim(dim: int, least: int = 1) -> None:
    if dim < least:
        raise UserError(f"dim is {dim}: the number of pixels must be at least {least}.")


def _block_distance(a: Tensor, b: Tensor) -> float:
    """The largest distance between points of a and of b, (N, D) and (M, D)."""
    x, y = a.float(), b.float()
    squared = torch.addmm((y * y).sum(1), x, y.T, alpha=-2).add_((x * x).sum(1, keepdim=True))
    row, column = divmod(int(squared.argmax()), len(b))
    return float((a[row].double() - b[column].double()).norm())
