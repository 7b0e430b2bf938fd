"""The exact likelihood of a score model, by the probability-flow ODE.

References:
    Y. Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations",
    arXiv 2011.13456, equations 39 and 40.
    W. Grathwohl et al., "FFJORD", arXiv 1810.01367, on the trace estimator of Hutchinson and Skilling.
"""

import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from .errors import UserError
from .ladder import check_ladder
from .prior import PRIOR_MEAN
from .rng import Noise
from .score import Score

Trace = Literal["rademacher", "gaussian", "exact"]
"""How the divergence is found: from probes v of +1 and -1 or of N(0, 1) as the mean of v^T J v (unbiased;
one gradient a probe), or as the trace itself (one gradient a dimension)."""


def bits_per_dim(
    score: Score,
    images: Tensor,
    sigmas: Tensor,
    rng: Noise,
    *,
    trace: Trace = "rademacher",
    num_probes: int = 1,
    mean: float = PRIOR_MEAN,
) -> Tensor:
    """Bits per dimension of stored images, the code length of bytes under the model.

    -log2 p(x) / D + 8 at x = (byte + u) / 256, u uniform: the probability of a byte image is the integral
    of p over a cell of volume 256^-D, so on average over u this is an upper bound on its code length (a
    tight one if p varies little over the cell). The map is that of the training data with dequantisation.

    Args:
        images: bytes, (B, *shape) uint8.
        score, sigmas, rng, trace, num_probes, mean: see `log_likelihood`; rng draws u as well.

    Returns:
        (B,) float64.

    Raises:
        UserError: images that are not bytes; and see `log_likelihood`.
    """
    if images.dtype != torch.uint8:
        raise UserError(f"images are {images.dtype}: bits per dimension are of bytes; store them as uint8.")
    x = (images + rng.uniform()) / 256
    nats = log_likelihood(score, x, sigmas, rng, trace=trace, num_probes=num_probes, mean=mean)
    return 8 - nats / (math.prod(rng.shape) * math.log(2))


def log_likelihood(
    score: Score,
    x: Tensor,
    sigmas: Tensor,
    rng: Noise,
    *,
    trace: Trace = "rademacher",
    num_probes: int = 1,
    mean: float = PRIOR_MEAN,
) -> Tensor:
    """log p(x) of the law that the ODE makes of N(mean, sigma_1^2 I) at sigma_L, in nats.

    log p(x) = log N(x(sigma_1); mean, sigma_1^2 I) - integral of sigma div score dsigma, where x(sigma)
    solves the ODE upwards from x at sigma_L. The steps are fixed, Runge-Kutta's of order 4 in log sigma
    with the ladder's ends, so equal arguments give equal bits. One set of probes serves the whole way, as
    in the paper.

    Args:
        score: the score model; it must pass gradients to x and be one for any sigma, for it is asked at
            sqrt(sigma_i sigma_{i+1}) too.
        x: points, (B, *shape), taken to be at sigma_L.
        sigmas: the ladder, (L,), descending. A geometric one of 51 levels from 50 to 0.01 is good to 1e-3
            bits/dim on a mixture, about `mean`, of Gaussians of standard deviation 0.05.
        rng: draws the probes for these B points.
        trace: see `Trace`.
        num_probes: how many are averaged over; 'exact' has no use for it.
        mean: the mean of the prior. The paper has 0 there; for pixels in [0, 1] 0.5 is nearer to the model's
            own law at sigma_1, of which N(mean, sigma_1^2 I) is an approximation for a large sigma_1.

    Returns:
        (B,) float64; 4 (L - 1) evaluations of the score.

    Raises:
        UserError: a ladder that does not descend, another trace, or fewer than 1 probe.
    """
    check_ladder(sigmas)
    probes = _probes(trace, num_probes, rng).to(x)
    change = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    rungs = sigmas.to(x.device, torch.float64).log().flip(0)
    for low, high in pairwise(rungs):
        x, step = _rk4(score, x, low, high - low, probes)
        change += step
    return _log_normal(x, mean, float(sigmas[0])) + change


def divergence(score: Score, x: Tensor, sigma: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
    """The score and the sum of v^T J v over probes v, J its Jacobian at x.

    Args:
        score: the score model.
        x: points, (B, *shape).
        sigma: noise standard deviation, () or (B,).
        probes: (P, B, *shape) or (P, 1, *shape); the standard basis makes the sum the trace of J.

    Returns:
        The score, (B, *shape), and the sum, (B,) float64; one evaluation.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = score(x, sigma)
        total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for probe in probes:
            (pulled,) = torch.autograd.grad(value, x, probe.expand_as(x), retain_graph=True)
            total += (pulled * probe).flatten(1).sum(1, dtype=torch.float64)
    return value.detach(), total


def _probes(trace: Trace, num_probes: int, rng: Noise) -> Tensor:
    """Probes over which v^T J v is to be summed, (P, B or 1, *shape)."""
    if trace not in ("rademacher", "gaussian", "exact"):
        raise UserError(f"trace is {trace!r}: it must be 'rademacher', 'gaussian' or 'exact'.")
    if num_probes < 1:
        raise UserError(f"num_probes is {num_probes}: it must be at least 1.")
    if trace == "exact":
        return torch.eye(math.prod(rng.shape)).view(-1, 1, *rng.shape)
    draws = [rng.normal() if trace == "gaussian" else _signs(rng) for _ in range(num_probes)]
    return torch.stack(draws) / math.sqrt(num_probes)


def _signs(rng: Noise) -> Tensor:
    return (rng.uniform() < 0.5) * 2.0 - 1.0


def _rk4(score: Score, x: Tensor, log_sigma: Tensor, h: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
    """One step up of x, and of the integral of its divergence."""
    k1, d1 = _field(score, x, log_sigma, probes)
    k2, d2 = _field(score, x + h / 2 * k1, log_sigma + h / 2, probes)
    k3, d3 = _field(score, x + h / 2 * k2, log_sigma + h / 2, probes)
    k4, d4 = _field(score, x + h * k3, log_sigma + h, probes)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), h / 6 * (d1 + 2 * d2 + 2 * d3 + d4)


def _field(score: Score, x: Tensor, log_sigma: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
    """dx/dlog(sigma) = -sigma^2 score(x, sigma), and its divergence."""
    sigma = log_sigma.exp()
    value, trace = divergence(score, x, sigma.to(x.dtype), probes)
    return -(sigma**2) * value, -(sigma**2) * trace


def _log_normal(x: Tensor, mean: float, std: float) -> Tensor:
    """log N(x; mean, std^2 I), (B,) float64."""
    squared = ((x.double() - mean) / std).square().flatten(1)
    return -(squared + math.log(2 * math.pi * std**2)).sum(1) / 2
