"""The likelihood against closed forms of Gaussians and mixtures, and its estimators against their laws."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.likelihood import Trace, bits_per_dim, divergence, log_likelihood
from pipeline.ncsn.nfe import CountEvaluations
from pipeline.ncsn.noise import geometric_sigmas
from pipeline.ncsn.rng import SampleNoise
from pipeline.toy.mixture import GaussianMixture

IMAGE = (1, 2, 2)


def mixture(dim: int, std: float = 0.05) -> GaussianMixture:
    """Three modes, about the mean of the prior."""
    means = torch.rand(3, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    return GaussianMixture(weights.tolist(), means - weights @ means + 0.5, std)


def gaussian(dim: int, mean: float = 0.3, std: float = 0.4) -> GaussianMixture:
    return GaussianMixture((1.0,), torch.full((1, dim), mean, dtype=torch.float64), std)


def in_bits(nats: Tensor, dim: int) -> Tensor:
    return nats / (dim * math.log(2))


def ladder(steps: int, high: float = 2.0, low: float = 0.1) -> Tensor:
    return torch.linspace(math.log(high), math.log(low), steps + 1, dtype=torch.float64).exp()


def no_draws(dim: int) -> SampleNoise:
    return SampleNoise(0, [], (dim,))


@pytest.mark.parametrize("mean", [0.5, 0.0])
def test_a_gaussian_has_the_likelihood_of_its_closed_form_at_order_4(mean: float) -> None:
    """The ODE is linear: it takes N(mean, sigma_1^2 I) to N(m + a (mean - m), (a sigma_1)^2 I) exactly, with
    a^2 = (s^2 + sigma_L^2) / (s^2 + sigma_1^2), prior and all."""
    m, s, high, low = 0.3, 0.4, 2.0, 0.1
    a = math.sqrt((s**2 + low**2) / (s**2 + high**2))
    x = torch.tensor([[0.1, 0.9, 0.5], [-1.0, 0.3, 2.0]], dtype=torch.float64)
    exact = torch.distributions.Normal(m + a * (mean - m), a * high).log_prob(x).sum(1)

    def error(steps: int) -> float:
        found = log_likelihood(gaussian(3).score, x, ladder(steps), no_draws(3), trace="exact", mean=mean)
        return float((found - exact).abs().max())

    steps = (8, 16, 32)
    order = -np.polyfit(np.log(steps), np.log([error(n) for n in steps]), 1)[0]
    assert order == pytest.approx(4, abs=0.3)
    assert error(64) < 1e-6


def test_a_mixture_converges_at_order_4() -> None:
    """Against 256 steps; unlike a Gaussian's, its divergence depends on x."""
    law = mixture(1, std=0.1)
    x = torch.linspace(-1, 2, 7, dtype=torch.float64)[:, None]

    def found(steps: int) -> Tensor:
        return log_likelihood(law.score, x, ladder(steps), no_draws(1), trace="exact")

    steps, exact = (16, 32, 64), found(256)
    errors = [float((found(n) - exact).norm()) for n in steps]
    assert -np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(4, abs=0.3)


@pytest.mark.parametrize(
    ("dim", "dtype"), [(1, torch.float64), (2, torch.float64), (2, torch.float32), (64, torch.float32)]
)
def test_a_mixture_has_its_analytic_likelihood_to_a_thousandth_of_a_bit(dim: int, dtype: torch.dtype) -> None:
    """Its modes have a standard deviation of 0.05, and there are 50 steps from sigma 50 to 0.01; 30 do in
    64 dimensions."""
    law = mixture(dim)
    x = law.sample(16 if dim < 64 else 2, torch.Generator().manual_seed(dim), sigma=0.01)
    sigmas = geometric_sigmas(50.0, 0.01, 51 if dim < 64 else 31)
    found = log_likelihood(law.score, x.to(dtype), sigmas, no_draws(dim), trace="exact")
    assert in_bits(found - law.log_prob(x, 0.01), dim).abs().max() < 1e-3


def test_the_exact_trace_is_that_of_the_jacobian() -> None:
    law, x = mixture(5), torch.rand(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sigma = torch.tensor(0.3)
    jacobians = [torch.autograd.functional.jacobian(lambda y: law.score(y[None], sigma)[0], y) for y in x]
    value, total = divergence(law.score, x, sigma, torch.eye(5, dtype=torch.float64)[:, None])
    torch.testing.assert_close(total, torch.stack([j.trace() for j in jacobians]))
    assert torch.equal(value, law.score(x, sigma)) and not value.requires_grad


def test_rademacher_probes_are_exact_on_a_multiple_of_the_identity() -> None:
    """v^T v is D for each of them."""
    x = torch.rand(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one, exact = (
        log_likelihood(gaussian(6).score, x, ladder(10), SampleNoise(0, range(4), (6,)), trace=trace)
        for trace in ("rademacher", "exact")
    )
    torch.testing.assert_close(one, exact)


@pytest.mark.parametrize("num_probes", [1, 3])
def test_gaussian_probes_have_their_law_on_a_multiple_of_the_identity(num_probes: int) -> None:
    """The divergence is c v^T v, so that what the estimate adds is the integral of c, 1/2 log of a ratio of
    variances, times chi^2 with D degrees of freedom: the mean of P of these, by Kolmogorov-Smirnov."""
    s, high, low, n = 0.4, 2.0, 0.1, 2_000
    x = torch.full((n, 6), 0.5, dtype=torch.float64)
    found = log_likelihood(
        gaussian(6, mean=0.5).score,
        x,
        ladder(10),
        SampleNoise(0, range(n), (6,)),
        trace="gaussian",
        num_probes=num_probes,
    )
    prior = -3 * math.log(2 * math.pi * high**2)
    added = (found - prior) / (0.5 * math.log((s**2 + high**2) / (s**2 + low**2)))
    assert scipy.stats.kstest(num_probes * added.numpy(), "chi2", (6 * num_probes,)).pvalue > 1e-3


@pytest.mark.parametrize("trace", ["rademacher", "gaussian"])
def test_hutchinsons_estimate_of_a_mixture_is_unbiased(trace: Trace) -> None:
    """8,000 estimates at one point between two modes, whose Jacobian is no multiple of the identity: their
    mean is the analytic value within 4 standard errors. That would tell an estimate 5 per cent too large,
    of which the prior's share of the nats is no part."""
    law, n = mixture(2, std=0.3), 8_000
    x = (law.means[:1] + law.means[1:2]).expand(n, 2) / 2
    rng = SampleNoise(0, range(n), (2,))
    found = log_likelihood(law.score, x, geometric_sigmas(20.0, 0.1, 21), rng, trace=trace)
    error = float(found.std()) / math.sqrt(n)
    estimated = float(found.mean()) + math.log(2 * math.pi * 20**2)
    assert abs(float(found.mean() - law.log_prob(x[:1], 0.1))) < 4 * error
    assert 0 < 4 * error < 0.05 * estimated


@pytest.mark.parametrize("trace", ["rademacher", "gaussian"])
def test_more_probes_have_less_spread(trace: Trace) -> None:
    law, n = mixture(2, std=0.15), 500
    x = (law.means[:1] + law.means[1:2]).expand(n, 2) / 2
    one, nine = (
        log_likelihood(law.score, x, ladder(10), SampleNoise(0, range(n), (2,)), trace=trace, num_probes=probes).std()
        for probes in (1, 9)
    )
    assert float(one / nine) == pytest.approx(3, rel=0.15)


def images(n: int) -> Tensor:
    """Bytes that the law of `image_law` gives."""
    x = image_law().sample(n, torch.Generator().manual_seed(0), sigma=0.05)
    return (x * 256).floor().clamp(0, 255).to(torch.uint8)


def image_law() -> GaussianMixture:
    return GaussianMixture((1.0,), torch.full((1, *IMAGE), 0.5), 0.08)


def test_bits_per_dim_are_those_of_the_probability_of_the_bytes() -> None:
    """The probability of a byte is the law's mass on [byte, byte + 1) / 256: 1/16 of a standard deviation,
    over which the mean over u is the code length to within 1e-3 bits."""
    n, std = 500, math.hypot(0.08, 0.05)
    data = images(n)
    found = bits_per_dim(image_law().score, data, geometric_sigmas(50.0, 0.05, 41), SampleNoise(0, range(n), IMAGE))
    cells = (data.double().numpy() / 256 - 0.5) / std
    mass = scipy.stats.norm.cdf(cells + 1 / (256 * std)) - scipy.stats.norm.cdf(cells)
    exact = -np.log2(mass).mean()
    assert found.mean().item() == pytest.approx(exact, abs=3e-3)
    assert 0 < exact < 8 and found.shape == (n,) and found.dtype == torch.float64


def test_bytes_are_spread_uniformly_over_their_cells() -> None:
    data, asked = images(5), []

    def score(x: Tensor, sigma: Tensor) -> Tensor:
        asked.append(x.detach())
        return image_law().score(x, sigma)

    bits_per_dim(score, data, geometric_sigmas(1.0, 0.1, 3), SampleNoise(3, range(5), IMAGE))
    assert torch.equal(asked[0], (data + SampleNoise(3, range(5), IMAGE).uniform()) / 256)


def bits(indices: list[int] | range, **changes: object) -> Tensor:
    settings = {"trace": "gaussian", "num_probes": 2} | changes
    rng = SampleNoise(3, indices, IMAGE)
    data = images(9)[list(indices)]
    return bits_per_dim(image_law().score, data, geometric_sigmas(10.0, 0.05, 6), rng, **settings)


@pytest.mark.parametrize("trace", ["gaussian", "rademacher", "exact"])
def test_image_k_has_its_bits_in_any_batch_and_order(trace: Trace) -> None:
    together = bits(range(9), trace=trace)
    assert torch.equal(together, torch.cat([bits([k], trace=trace) for k in range(9)]))
    assert torch.equal(together[[8, 2, 5]], bits([8, 2, 5], trace=trace))


def test_a_step_costs_four_evaluations_whatever_the_probes() -> None:
    score = CountEvaluations(image_law().score)
    rng = SampleNoise(0, range(3), IMAGE)
    bits_per_dim(score, images(3), geometric_sigmas(1.0, 0.1, 6), rng, num_probes=3)
    assert score.nfe == 4 * 5


def test_gradients_are_found_where_the_caller_wants_none() -> None:
    with torch.no_grad():
        found = bits(range(3))
    assert torch.equal(found, bits(range(3))) and not found.requires_grad


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"trace": "other"}, "trace is 'other'"), ({"num_probes": 0}, "num_probes is 0")],
)
def test_bad_settings_are_refused_by_name(changes: dict[str, object], named: str) -> None:
    with pytest.raises(UserError, match=named):
        bits(range(2), **changes)


def test_images_that_are_not_bytes_are_refused() -> None:
    rng, sigmas = SampleNoise(0, range(2), IMAGE), geometric_sigmas(1.0, 0.1, 3)
    with pytest.raises(UserError, match="uint8"):
        bits_per_dim(image_law().score, torch.rand(2, *IMAGE), sigmas, rng)


def test_a_ladder_that_ends_in_0_is_refused() -> None:
    with pytest.raises(UserError, match="must descend"):
        log_likelihood(gaussian(1).score, torch.zeros(1, 1), torch.tensor([1.0, 0.0]), no_draws(1))
