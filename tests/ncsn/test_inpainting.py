"""Inpainting of correlated Gaussians: the exact law of either algorithm, and the exact conditional."""

from typing import get_args

import pytest
import scipy.stats
import torch
from torch import Tensor

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.inpainting import Form, inpainting, inpainting_levels
from pipeline.ncsn.noise import geometric_sigmas
from pipeline.ncsn.rng import SampleNoise

FORMS = get_args(Form)
CHAIN = 0.7 ** (torch.arange(8) - torch.arange(8)[:, None]).abs().double()
"""The covariance of a stationary chain of unit variance."""
IN_CHAIN = torch.tensor([0, 1, 1, 0, 0, 0, 1, 0], dtype=torch.bool)
VALUES = torch.tensor([torch.nan, 1.5, -0.5, torch.nan, torch.nan, torch.nan, 1.0, torch.nan])
PAIR = torch.tensor([[1.0, 0.8], [0.8, 1.0]]).double()
IN_PAIR, VALUE = torch.tensor([False, True]), torch.tensor([torch.nan, 1.5])


def conditional(covariance: Tensor, mask: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of what the mask leaves, given the values under it."""
    gain = covariance[~mask][:, mask] @ covariance[mask][:, mask].inverse()
    rest = covariance[~mask][:, ~mask] - gain @ covariance[mask][:, ~mask]
    return gain @ values[mask].double(), rest


def exact_law(
    form: Form, covariance: Tensor, mask: Tensor, values: Tensor, sigmas: Tensor, u: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of an algorithm's samples from 0, u = eps / sigma_L^2.

    Every operation is affine in the state (x, n), n the known part's noise.
    """
    dim = len(mask)
    one, none = torch.eye(dim).double(), torch.zeros(dim, dim).double()
    known = torch.diag(mask.double())
    mean, cov = torch.zeros(2 * dim).double(), torch.zeros(2 * dim, 2 * dim).double()

    def apply(rows: list[list[Tensor]], noise: tuple[Tensor, Tensor], shift: Tensor) -> None:
        nonlocal mean, cov
        move = torch.cat([torch.cat(row, 1) for row in rows])
        mean = move @ mean + torch.cat([shift, 0 * shift])
        cov = move @ cov @ move.T + torch.block_diag(*noise)

    zero, pasted = one[0] * 0, known @ values.nan_to_num().double()
    for sigma in sigmas.double():
        alpha = u * sigma**2
        away = one - alpha * (covariance + sigma**2 * one).inverse()
        for step in range(steps):
            if form == "v2" or step == 0:
                apply([[one, none], [none, none]], (none, sigma**2 * one), zero)
            if form == "v2":
                apply([[one - known, known], [none, one]], (none, none), pasted)
            apply([[away, none], [none, one]], (2 * alpha * one, none), zero)
            if form == "v1":
                apply([[one - known, known], [none, one]], (none, none), pasted)
    return mean[:dim], cov[:dim, :dim]


def paint(
    form: Form,
    covariance: Tensor,
    mask: Tensor,
    values: Tensor,
    sigmas: Tensor,
    u: float,
    steps: int,
    points: int,
) -> Tensor:
    """`points` samples from 0 with the exact noisy score of N(0, covariance), in 20 of SampleNoise."""
    dim = len(mask)

    def score(x: Tensor, sigma: Tensor) -> Tensor:
        return -x @ (covariance + sigma.double() ** 2 * torch.eye(dim)).inverse().to(x)

    return inpainting(
        score,
        sigmas,
        SampleNoise(0, range(20), (points // 20, dim)),
        known=values,
        mask=mask,
        step_size=u * float(sigmas[-1]) ** 2,
        steps_per_level=steps,
        form=form,
        start=torch.zeros(20, points // 20, dim),
    ).view(-1, dim)


def rejects(x: Tensor, mean: Tensor, cov: Tensor) -> bool:
    """Kolmogorov-Smirnov at 0.001 each: whitened values, and their norm, against N(0, I)."""
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(cov), (x.double() - mean).T, upper=False)
    values = scipy.stats.kstest(white.flatten().numpy(), "norm").pvalue
    norms = scipy.stats.kstest(white.norm(dim=0).numpy(), scipy.stats.chi(len(cov)).cdf).pvalue
    return bool(min(values, norms) < 1e-3)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("last", [0.6, 0.05])
def test_the_law_of_each_form_is_the_one_derived(form: Form, last: float) -> None:
    """Of the rest and of the known part, which ends noisy; and it is not the other form's."""
    settings = (PAIR, IN_PAIR, VALUE, geometric_sigmas(2.0, last, 5), 0.2, 12)
    x = paint(form, *settings, points=20_000)
    assert not rejects(x, *exact_law(form, *settings))
    assert all(rejects(x, *exact_law(other, *settings)) for other in FORMS if other != form)


@pytest.mark.parametrize("form", FORMS)
def test_the_bias_of_each_form_is_the_one_stated(form: Form) -> None:
    """One level until it settles, known part with noise: the rest has mean A y and, C its variance given
    noisy y, variance C + A^2 sigma^2 in v1 and C in v2, plus what the step alpha adds; to 3 per cent."""
    rho, sigma, u = 0.8, 0.6, 0.05
    gain, alpha = rho / (1 + sigma**2), u * sigma**2
    c = 1 + sigma**2 - gain * rho
    apart = (gain * sigma) ** 2
    settled = 1 - alpha / (2 * c)
    expected = c / settled + apart if form == "v1" else (c + alpha * apart / (2 * c)) / settled
    x = paint(form, PAIR, IN_PAIR, VALUE, torch.tensor([sigma]), u, 250, points=20_000)[:, 0]
    assert x.var().item() == pytest.approx(expected, rel=0.03)
    assert x.mean().item() == pytest.approx(1.5 * gain, abs=0.03)


@pytest.mark.parametrize("form", FORMS)
def test_samples_are_drawn_from_the_exact_conditional(form: Form) -> None:
    """Up to the bias of these settings, 0.01 in mean and 1.5 % in variance. Power: the same test
    rejects a mean 0.05 or a variance 10 % off."""
    mean, spread = conditional(CHAIN, IN_CHAIN, VALUES)
    settings = (CHAIN, IN_CHAIN, VALUES, geometric_sigmas(0.4, 0.05, 3), 1.0, 500)
    law = exact_law(form, *settings)
    assert (law[0][~IN_CHAIN] - mean).abs().max() < 0.01
    assert (law[1][~IN_CHAIN][:, ~IN_CHAIN].diagonal() / spread.diagonal() - 1).abs().max() < 0.015
    x = paint(form, *settings, points=2_000)
    rest = x[:, ~IN_CHAIN]
    assert not rejects(rest, mean, spread)
    assert rejects(rest + 0.05, mean, spread)
    assert rejects(mean + (rest - mean) * 1.1**0.5, mean, spread)
    assert (x - VALUES)[:, IN_CHAIN].abs().max() < 6 * 0.1


def test_v1_ends_with_noise_sigma_l_on_the_known_part() -> None:
    sigmas = geometric_sigmas(2.0, 0.5, 4)
    x = paint("v1", PAIR, IN_PAIR, VALUE, sigmas, 0.2, 5, points=20_000)[:, 1:]
    assert not rejects(x, VALUE[1:], 0.25 * torch.eye(1).double())


def elementwise(x: Tensor, sigma: Tensor) -> Tensor:
    return -(x - 0.3) / (sigma**2 + 0.04)


def image(mask: Tensor, known: Tensor, form: Form = "v1", samples: int = 3, **changes: object) -> Tensor:
    rng = SampleNoise(0, range(samples), (2, 4, 4))
    settings = {"step_size": 2e-5, "steps_per_level": 4, "form": form} | changes
    return inpainting(elementwise, geometric_sigmas(1.0, 0.01, 5), rng, known=known, mask=mask, **settings)


@pytest.mark.parametrize("form", FORMS)
def test_a_mask_of_any_shape_that_broadcasts_serves(form: Form) -> None:
    rows = torch.tensor([1.0, 0, 0, 1]).view(4, 1)
    known = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    full = rows.expand(3, 2, 4, 4)
    expected = image(full, known, form)
    for mask in (rows, rows.bool(), rows.expand(4, 4).byte(), full.bool(), rows.view(1, 1, 4, 1)):
        assert torch.equal(image(mask, known, form), expected)
    assert (expected - known)[full.bool()].abs().max() < 0.06
    assert (expected - known)[~full.bool()].abs().max() > 0.06
    broken = torch.where(full.bool(), known, torch.nan)
    assert torch.equal(image(rows, broken, form), expected)
    of_one = image(rows, known[1], form, samples=2)
    assert torch.equal(of_one[1], expected[1])


@pytest.mark.parametrize("form", FORMS)
def test_levels_are_intermediate_samples_and_the_start_is_kept(form: Form) -> None:
    start, rng = torch.full((3, 2, 4, 4), 0.5), SampleNoise(0, range(3), (2, 4, 4))
    mask, known, sigmas = torch.eye(4), torch.zeros(()), geometric_sigmas(1.0, 0.01, 5)
    settings = {"known": known, "mask": mask, "step_size": 2e-5, "steps_per_level": 4, "form": form}
    levels = []
    for x in inpainting_levels(elementwise, sigmas, rng, start=start, **settings):
        assert torch.is_grad_enabled()
        levels.append(x)
    assert len(levels) == 5
    assert torch.equal(levels[-1], image(mask, known, form, start=start))
    assert torch.equal(start, torch.full((3, 2, 4, 4), 0.5))


def test_the_papers_convention_is_half_the_step() -> None:
    nothing = {"mask": torch.zeros(()), "known": torch.zeros(())}
    released = image(**nothing, form="v1", convention="released")
    torch.testing.assert_close(image(**nothing, form="v1", convention="paper", step_size=4e-5), released)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"form": "v3"}, "form is 'v3'"),
        ({"steps_per_level": 0}, "steps_per_level is 0"),
        ({"step_size": 0.0}, "is 0.0"),
        ({"mask": torch.full((4, 4), 0.5)}, "other than 0 and 1"),
        ({"mask": torch.ones(3)}, r"mask has the shape \(3,\)"),
        ({"known": torch.ones(5, 2, 4, 4)}, r"known has the shape \(5, 2, 4, 4\)"),
    ],
)
def test_bad_settings_are_refused_by_name(changes: dict[str, object], named: str) -> None:
    with pytest.raises(UserError, match=named):
        image(**{"mask": torch.eye(4), "known": torch.zeros(4, 4)} | changes)
