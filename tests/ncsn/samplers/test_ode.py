"""The probability-flow ODE against closed forms, exact laws, theory's orders and diffusers on one noise."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import scipy.integrate
import scipy.stats
import torch
from diffusers import EulerDiscreteScheduler, HeunDiscreteScheduler
from diffusers.schedulers.deprecated.scheduling_karras_ve import KarrasVeScheduler
from torch import Tensor

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.nfe import CountEvaluations
from pipeline.ncsn.noise import geometric_sigmas, karras_sigmas
from pipeline.ncsn.rng import SampleNoise
from pipeline.ncsn.sampler import denoised
from pipeline.ncsn.samplers.stochastic_heun import StochasticHeun
from pipeline.toy.mixture import GaussianMixture
from tests.ncsn.samplers.exact import IMAGE, NO_NOISE, image_mixture, ladder, mixture, slope, solved
from tests.ncsn.samplers.functions import probability_flow, probability_flow_levels

ORDERS: list[tuple[str, int]] = [("euler", 1), ("heun", 2)]


@pytest.mark.parametrize(("method", "order"), ORDERS)
def test_a_gaussian_is_solved_at_the_methods_order(method: str, order: int) -> None:
    """Closed form: x(sigma) = m + (x_0 - m) sqrt((s^2 + sigma^2) / (s^2 + sigma_0^2))."""
    m, s = torch.tensor([0.3, 0.6], dtype=torch.float64), 0.4
    start = m + 5 * torch.tensor([[-1.0, 0.5], [2.0, 1.0]], dtype=torch.float64)
    exact = m + (start - m) * math.sqrt((s**2 + 0.1**2) / (s**2 + 5**2))
    score = GaussianMixture((1.0,), m[None], s).score

    def error(steps: int) -> float:
        found = probability_flow(score, ladder(steps), NO_NOISE, denoise=False, method=method, start=start)
        return float((found - exact).abs().max())

    assert slope(error) == pytest.approx(order, abs=0.1)
    assert error(256) < (1e-1, 1e-3)[order - 1]


@pytest.mark.parametrize(("method", "order"), ORDERS)
@pytest.mark.parametrize("dim", [1, 2, 64])
def test_a_mixture_is_solved_at_the_methods_order(method: str, order: int, dim: int) -> None:
    score = mixture(dim).score
    noise = torch.randn(16, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = 0.5 + 5 * noise
    exact = solved(score, start)

    def error(steps: int) -> float:
        found = probability_flow(score, ladder(steps), NO_NOISE, denoise=False, method=method, start=start)
        return float((found - exact).norm())

    assert slope(error) == pytest.approx(order, abs=0.15)


def heun_factor(sigma: float, below: float, std: float) -> float:
    """What a Heun step multiplies x by where the data are N(0, std^2)."""
    first, second, h = sigma / (std**2 + sigma**2), below / (std**2 + below**2), below - sigma
    return 1 + h / 2 * (first + second * (1 + h * first))


def variance_after(sigmas: Tensor, std: float, variance: float, gamma: float, noise: float) -> float:
    """The variance that algorithm 2 leaves on N(0, std^2), step by step: all of it is linear."""
    values = sigmas.tolist()
    for sigma, below in pairwise(values):
        variance += noise**2 * ((1 + gamma) ** 2 - 1) * sigma**2
        variance *= heun_factor((1 + gamma) * sigma, below, std) ** 2
    return variance


@pytest.mark.parametrize(("churn", "churn_noise"), [(10.0, 1.0), (10.0, 1.2), (40.0, 1.0)])
def test_churn_forgets_the_start_and_reaches_its_stationary_variance(churn: float, churn_noise: float) -> None:
    """At levels that hardly fall, from twice the standard deviation: s^2 + sigma^2 for churn_noise = 1 but
    for Heun's error, and in each case the variance of algorithm 2 written out, by Kolmogorov-Smirnov and
    within 3 per cent; without churn the factor of 4 stays."""
    std, sigmas = 0.5, torch.linspace(1.0, 0.98, 41, dtype=torch.float64)
    start = 2 * math.sqrt(std**2 + 1) * SampleNoise(1, range(1_000), (25,)).normal()
    score = GaussianMixture((1.0,), torch.zeros(1, 25), std).score
    expected = variance_after(sigmas, std, 4 * (std**2 + 1), min(churn / 41, 2**0.5 - 1), churn_noise)
    rng = SampleNoise(0, range(1_000), (25,))
    x = probability_flow(score, sigmas, rng, denoise=False, churn=churn, churn_noise=churn_noise, start=start)
    assert x.double().square().mean().item() == pytest.approx(expected, rel=0.03)
    assert scipy.stats.kstest(x.flatten().numpy() / math.sqrt(expected), "norm").pvalue > 1e-3
    stationary = std**2 + 0.98**2
    assert (abs(expected / stationary - 1) < 0.03) == (churn_noise == 1)
    plain = probability_flow(score, sigmas, rng, denoise=False, start=start)
    assert plain.square().mean().item() == pytest.approx(4 * stationary, rel=0.03)


def draw(indices: list[int] | range, **changes: object) -> Tensor:
    settings = {"denoise": True, "churn": 4.0} | changes
    rng = SampleNoise(3, indices, IMAGE)
    return probability_flow(image_mixture().score, geometric_sigmas(5.0, 0.01, 9), rng, **settings)


def test_without_churn_its_settings_change_no_bit_and_it_is_algorithm_1() -> None:
    plain = draw(range(5), churn=0.0)
    assert torch.equal(plain, draw(range(5), churn=0.0, churn_noise=7.0, churn_max=3.0))
    assert torch.equal(plain, draw(range(5), churn_min=6.0))
    assert torch.equal(plain, draw(range(5), churn_max=0.001))
    assert not torch.allclose(plain, draw(range(5)), atol=1e-3)
    x = 0.5 + 5 * SampleNoise(3, range(5), IMAGE).normal().double()
    sigmas = [*geometric_sigmas(5.0, 0.01, 9).double(), torch.zeros(())]
    for t, t_next in pairwise(sigmas):
        d = -t * image_mixture().score(x, t)
        x_next = x + (t_next - t) * d
        if t_next > 0:
            x_next = x + (t_next - t) * (d / 2 - t_next * image_mixture().score(x_next, t_next) / 2)
        x = x_next
    torch.testing.assert_close(plain.double(), x, rtol=1e-4, atol=1e-5)


class TorchNoise:
    """The noise that a torch generator gives, and how often it was asked."""

    device = torch.device("cpu")

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.asked = shape, 0
        self.generator = torch.Generator().manual_seed(4)

    def normal(self) -> Tensor:
        self.asked += 1
        return torch.randn(self.shape, generator=self.generator)


@pytest.mark.parametrize(("low", "high", "hits"), [(0.0, math.inf, 8), (0.5, 3.0, 2), (0.01, 0.05, 2)])
def test_churn_keeps_to_its_window(low: float, high: float, hits: int) -> None:
    """Both ends count; the denoising step, from the last level to 0, has no churn."""
    sigmas, rng = geometric_sigmas(5.0, 0.01, 9), TorchNoise((3, *IMAGE))
    assert hits == sum(low <= round(s, 6) <= high for s in sigmas.tolist()[:-1])
    probability_flow(
        image_mixture().score,
        sigmas,
        rng,
        denoise=True,
        churn=4.0,
        churn_min=low,
        churn_max=high,
        start=torch.zeros(3, *IMAGE),
    )
    assert rng.asked == hits


@pytest.mark.parametrize("end", ["churn_min", "churn_max"])
def test_a_level_at_an_end_of_the_window_has_churn(end: str) -> None:
    """Algorithm 2 of EDM has churn at S_tmin <= t <= S_tmax; these levels are exact in float32."""
    window = {"churn_min": 0.0, "churn_max": math.inf} | {end: 1.0}
    settings = StochasticHeun(num_levels=3, churn=0.3, churn_noise=1.0, **window)
    hits = [gamma > 0 for gamma in settings._gammas(torch.tensor([2.0, 1.0, 0.5]))]
    assert hits == ([True, True, False] if end == "churn_min" else [False, True, True])


def euler_of_diffusers(start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    scheduler = EulerDiscreteScheduler(use_karras_sigmas=True)
    scheduler.set_timesteps(steps)
    return scheduler.sigmas[:-1], stepped(scheduler, start, scheduler.sigmas[:-1])


def heun_of_diffusers(start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    scheduler = HeunDiscreteScheduler(use_karras_sigmas=True)
    scheduler.set_timesteps(steps)
    return scheduler.sigmas.unique().flip(0)[:-1], stepped(scheduler, start, scheduler.sigmas[:-1])


def stepped(scheduler: EulerDiscreteScheduler | HeunDiscreteScheduler, x: Tensor, sigmas: Tensor) -> Tensor:
    scheduler.is_scale_input_called = True  # the score takes x as it is
    for t, sigma in zip(scheduler.timesteps, sigmas, strict=True):
        x = scheduler.step(-sigma * image_mixture().score(x, sigma), t, x).prev_sample
    return x


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers on NumPy 2
@pytest.mark.parametrize(("method", "other"), [("euler", euler_of_diffusers), ("heun", heun_of_diffusers)])
def test_it_is_diffusers_sampler(method: str, other: Callable[[Tensor, int], tuple[Tensor, Tensor]]) -> None:
    start = 0.5 + 14 * SampleNoise(3, range(6), IMAGE).normal()
    sigmas, expected = other(start, 12)
    assert len(sigmas) == 12
    found = probability_flow(image_mixture().score, sigmas, NO_NOISE, denoise=True, method=method, start=start)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_churn_is_diffusers_on_the_same_noise() -> None:
    sigmas, score = karras_sigmas(5.0, 0.01, 12), image_mixture().score
    other = KarrasVeScheduler(s_churn=4.0, s_noise=1.1, s_min=0.02, s_max=3.0)
    other.set_timesteps(12)
    noise, used = TorchNoise((6, *IMAGE)), torch.Generator()
    start = 0.5 + 5 * noise.normal()
    expected = start
    used.set_state(noise.generator.get_state())
    for sigma, below in zip(sigmas, [*sigmas[1:], torch.zeros(())], strict=True):
        if not 0.02 <= sigma <= 3:  # diffusers draws here too, and adds it times 0
            raised, hat = expected, sigma
        else:
            raised, hat = other.add_noise_to_input(expected, sigma, used)
        out = other.step(hat * score(raised, hat), hat, below, raised)
        expected = out.prev_sample
        if below > 0:
            again = below * score(expected, below)
            expected = other.step_correct(again, hat, below, raised, expected, out.derivative).prev_sample
    found = probability_flow(
        score,
        sigmas,
        noise,
        denoise=True,
        churn=4.0,
        churn_noise=1.1,
        churn_min=0.02,
        churn_max=3.0,
        start=start,
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [{"method": "euler"}, {"method": "heun"}, {"churn": 4.0}])
@pytest.mark.parametrize("denoise", [True, False])
def test_the_cost_is_two_or_one_a_step_and_one_for_denoising(settings: dict[str, object], denoise: bool) -> None:
    score = CountEvaluations(image_mixture().score)
    rng, sigmas = SampleNoise(0, range(3), IMAGE), geometric_sigmas(1.0, 0.01, 7)
    probability_flow(score, sigmas, rng, denoise=denoise, **settings)
    assert score.nfe == (6 if "euler" in settings.values() else 12) + denoise


@pytest.mark.parametrize("method", ["euler", "heun"])
def test_the_levels_run_from_the_drawn_start_to_the_last(method: str) -> None:
    sigmas, rng = geometric_sigmas(5.0, 0.01, 9), SampleNoise(3, range(4), IMAGE)
    states = list(probability_flow_levels(image_mixture().score, sigmas, rng, method=method))
    assert len(states) == 9
    assert torch.equal(states[0], 0.5 + 5 * SampleNoise(3, range(4), IMAGE).normal())
    rng = SampleNoise(3, range(4), IMAGE)
    end = probability_flow(image_mixture().score, sigmas, rng, denoise=True, method=method)
    assert torch.equal(denoised(image_mixture().score, states[-1], sigmas), end)


@pytest.mark.parametrize("method", ["euler", "heun"])
def test_without_churn_only_the_ladders_own_levels_are_asked(method: str) -> None:
    """So that a network of a fixed ladder serves."""
    sigmas, asked = geometric_sigmas(5.0, 0.01, 9), set()

    def score(x: Tensor, sigma: Tensor) -> Tensor:
        asked.add(sigma.item())
        return image_mixture().score(x, sigma)

    probability_flow(score, sigmas, SampleNoise(3, range(4), IMAGE), denoise=True, method=method)
    assert asked == set(sigmas.tolist())


def test_samples_carry_no_gradient_and_the_caller_keeps_his() -> None:
    weight = torch.ones((), requires_grad=True)
    rng = SampleNoise(0, range(2), IMAGE)
    levels = probability_flow_levels(lambda x, sigma: -weight * x / sigma**2, geometric_sigmas(1.0, 0.1, 3), rng)
    for x in levels:
        assert not x.requires_grad
        assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"churn": -1.0}, "churn is -1.0"),
        ({"churn": math.nan}, "churn is nan"),
        ({"churn_noise": -0.1}, "churn_noise is -0.1"),
        ({"churn_min": 2.0, "churn_max": 1.0}, "churn_min is 2.0"),
    ],
)
def test_bad_settings_are_refused_by_name(changes: dict[str, object], named: str) -> None:
    with pytest.raises(UserError, match=named):
        draw(range(2), **changes)
