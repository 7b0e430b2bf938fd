"""The toy figures: noise bounds the loss, the field is near the true one, and annealing mends the modes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from pipeline import toy
from pipeline.toy import fig3
from pipeline.toy.mixture import mixture

LOSSES: dict[str, Any] = {"sigmas": [0.0, 0.5], "width": 4, "steps": 3, "batch_size": 8, "lr": 1e-3}


def images(n: int = 20) -> np.ndarray:
    return (17 * np.random.default_rng(0).integers(0, 16, (n, 1, 8, 8))).astype(np.uint8)


@pytest.fixture(scope="module")
def panels() -> dict[str, toy.SamplePanel]:
    return {panel.name: panel for panel in toy.panels(num_samples=600, seed=0)}


@pytest.fixture(scope="module")
def divergences() -> dict[str, toy.Divergence]:
    return {d.name: d for d in toy.divergences(num_samples=100, seed=0)}


@pytest.fixture(scope="module")
def fields() -> toy.ScoreFields:
    return toy.score_fields(steps=400, seed=0)


def test_without_noise_the_loss_of_one_image_falls_below_the_bound_that_noise_gives() -> None:
    """The least value over all scores is -D / (2 sigma^2) = -32, that of N(x, sigma^2 I)."""
    one = np.full((8, 1, 8, 8), 100, np.uint8)
    clean, noisy = toy.loss_curves(one, **LOSSES | {"sigmas": [0.0, 1.0], "steps": 35}, seed=0)
    assert clean.losses[20:].mean() < -32 < noisy.losses[20:].mean() < 0


def test_trainings_differ_by_their_noise_alone() -> None:
    first, same, noisy = toy.loss_curves(images(), **LOSSES | {"sigmas": [0.0, 0.0, 0.3]}, seed=0)
    np.testing.assert_array_equal(first.losses, same.losses)
    assert first.losses.shape == (3,) and (first.losses != noisy.losses).all()
    again = toy.loss_curves(images(), **LOSSES | {"sigmas": [0.3]}, seed=0)[0]
    np.testing.assert_array_equal(again.losses, noisy.losses)
    assert (toy.loss_curves(images(), **LOSSES, seed=1)[0].losses != first.losses).all()


def test_a_training_ends_before_its_first_loss_that_is_no_number() -> None:
    (curve,) = toy.loss_curves(images(), **LOSSES | {"sigmas": [0.0], "steps": 20, "lr": 1e6}, seed=0)
    assert 0 < len(curve.losses) < 20 and np.isfinite(curve.losses).all()
    assert curve.metrics()["steps"] == len(curve.losses)


def test_fluctuation_is_the_relative_deviation_at_the_end() -> None:
    losses = np.array([9.0] * 16 + [-1.0, -3.0, -1.0, -3.0], np.float32)
    assert toy.LossCurve(0.1, losses).metrics() == {"steps": 20, "mean": -2.0, "fluctuation": 0.5}


def test_annealing_finds_the_weights_and_plain_langevin_does_not(panels: dict[str, toy.SamplePanel]) -> None:
    """Figure 3: .8 but for the chance of 600 draws (.016); half of the start is nearer to each mode."""
    assert panels["exact"].fraction == pytest.approx(0.8, abs=0.05)
    assert panels["annealed_convolution"].fraction == pytest.approx(0.8, abs=0.06)
    assert panels["annealed_released"].fraction == pytest.approx(0.8, abs=0.06)
    assert panels["langevin"].fraction == pytest.approx(0.5, abs=0.07)


def test_only_the_released_law_ends_at_the_density_itself(panels: dict[str, toy.SamplePanel]) -> None:
    """The convolution's last level has a spread of sqrt(1 + 1)."""
    assert panels["exact"].spread == pytest.approx(1.0, rel=0.05)
    assert panels["annealed_released"].spread == pytest.approx(1.0, rel=0.05)
    assert panels["annealed_convolution"].spread == pytest.approx(2**0.5, rel=0.05)


def test_released_samples_have_the_law_of_the_mode(panels: dict[str, toy.SamplePanel]) -> None:
    samples = panels["annealed_released"].samples
    upper = samples[samples.sum(1) > 0] - 5
    assert scipy.stats.kstest(upper.ravel(), "norm").pvalue > 1e-3


@pytest.mark.parametrize(("name", "variance"), [("annealed_convolution", 101.0), ("annealed_released", 100.0)])
def test_on_the_other_ladder_samples_grow_as_theory_says(
    divergences: dict[str, toy.Divergence], name: str, variance: float
) -> None:
    """Far out x becomes (1 - alpha / (2 variance)) x with alpha = 0.1 * 10^2 / 0.1^2 = 1,000."""
    sizes = divergences[name].sizes.astype(np.float64)
    np.testing.assert_allclose(sizes[11:] / sizes[10:-1], abs(1 - 500 / variance), rtol=1e-3)


def test_samples_are_lost_where_their_squares_overflow(divergences: dict[str, toy.Divergence]) -> None:
    """A sum of two squares passes 2^128 in the score of the iteration that gives no number."""
    for divergence in divergences.values():
        assert divergence.level == 1 and divergence.finite == len(divergence.sizes) < 40
        assert divergence.sizes[-2] < 2**64 and divergence.sizes[-1] > 2**63.5


def test_with_the_step_in_proportion_the_other_ladder_loses_no_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fig3, "ANNEALED", replace(fig3.ANNEALED, step_size=0.1 * (0.1 / 1.0) ** 2))
    assert [d.finite for d in toy.divergences(num_samples=20, seed=0)] == [1_000, 1_000]


def test_fields_are_those_of_the_grid(fields: toy.ScoreFields) -> None:
    assert fields.points.shape == fields.true.shape == fields.estimated.shape == (20, 20, 2)
    assert fields.points[0, -1].tolist() == [8, -8] and fields.points[-1, 0].tolist() == [-8, 8]
    point = torch.tensor(fields.points[3, 16])[None].requires_grad_()
    (gradient,) = torch.autograd.grad(mixture().log_prob(point).sum(), point)
    np.testing.assert_allclose(fields.true[3, 16], gradient[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(fields.log_density[3, 16], mixture().log_prob(point).item(), rtol=1e-5)


def test_training_brings_the_field_near_the_true_one(fields: toy.ScoreFields) -> None:
    """Where data is: E |true|^2 = 2, the error of a field that is zero."""
    untrained = toy.score_fields(steps=0, seed=0)
    assert untrained.squared_error() > 1
    assert fields.squared_error() < 0.3
    assert fields.losses.shape == (400,) and fields.losses[-50:].mean() < fields.losses[:50].mean()


def test_the_same_seed_gives_the_same_figures() -> None:
    first, second = (toy.run_toys(images(), num_samples=20, steps=3, seed=1, losses=LOSSES) for _ in range(2))
    assert first.metrics() == second.metrics()
    np.testing.assert_array_equal(first.fields.estimated, second.fields.estimated)
    np.testing.assert_array_equal(first.panels[2].samples, second.panels[2].samples)
    assert not np.array_equal(first.fields.estimated, toy.score_fields(steps=3, seed=2).estimated)


def test_the_global_generator_and_the_number_of_threads_are_left_alone() -> None:
    torch.manual_seed(0)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    toy.run_toys(images(), num_samples=5, steps=1, seed=1, losses=LOSSES)
    left = torch.get_num_threads()
    torch.set_num_threads(threads)
    assert torch.equal(before, torch.random.get_rng_state()) and left == 2
