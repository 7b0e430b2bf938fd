"""The toy figures: the estimated field is near the true one, and annealing mends the weights of the modes."""

import numpy as np
import pytest
import scipy.stats
import torch

from pipeline import toy


@pytest.fixture(scope="module")
def panels() -> dict[str, toy.Panel]:
    return {panel.name: panel for panel in toy.panels(num_samples=600, seed=0)}


@pytest.fixture(scope="module")
def fields() -> toy.ScoreFields:
    return toy.score_fields(steps=400, seed=0)


def test_annealing_finds_the_weights_and_plain_langevin_does_not(panels: dict[str, toy.Panel]) -> None:
    """Figure 3: .8 but for the chance of 600 draws (.016); half of the start is nearer to each mode."""
    assert panels["exact"].fraction == pytest.approx(0.8, abs=0.05)
    assert panels["annealed_convolution"].fraction == pytest.approx(0.8, abs=0.06)
    assert panels["annealed_released"].fraction == pytest.approx(0.8, abs=0.06)
    assert panels["langevin"].fraction == pytest.approx(0.5, abs=0.07)


def test_only_the_released_law_ends_at_the_density_itself(panels: dict[str, toy.Panel]) -> None:
    """The convolution's last level has a spread of sqrt(1 + 1)."""
    assert panels["exact"].spread == pytest.approx(1.0, rel=0.05)
    assert panels["annealed_released"].spread == pytest.approx(1.0, rel=0.05)
    assert panels["annealed_convolution"].spread == pytest.approx(2**0.5, rel=0.05)


def test_released_samples_have_the_law_of_the_mode(panels: dict[str, toy.Panel]) -> None:
    samples = panels["annealed_released"].samples
    upper = samples[samples.sum(1) > 0] - 5
    assert scipy.stats.kstest(upper.ravel(), "norm").pvalue > 1e-3


def test_fields_are_those_of_the_grid(fields: toy.ScoreFields) -> None:
    assert fields.points.shape == fields.true.shape == fields.estimated.shape == (20, 20, 2)
    assert fields.points[0, -1].tolist() == [8, -8] and fields.points[-1, 0].tolist() == [-8, 8]
    point = torch.tensor(fields.points[3, 16])[None].requires_grad_()
    (gradient,) = torch.autograd.grad(toy.mixture().log_prob(point).sum(), point)
    np.testing.assert_allclose(fields.true[3, 16], gradient[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(fields.log_density[3, 16], toy.mixture().log_prob(point).item(), rtol=1e-5)


def test_training_brings_the_field_near_the_true_one(fields: toy.ScoreFields) -> None:
    """Where data is: E |true|^2 = 2, the error of a field that is zero."""
    untrained = toy.score_fields(steps=0, seed=0)
    assert untrained.squared_error() > 1
    assert fields.squared_error() < 0.3
    assert fields.losses.shape == (400,) and fields.losses[-50:].mean() < fields.losses[:50].mean()


def test_the_same_seed_gives_the_same_figures() -> None:
    first, second = (toy.run(num_samples=20, steps=3, seed=1) for _ in range(2))
    assert first.metrics() == second.metrics()
    np.testing.assert_array_equal(first.fields.estimated, second.fields.estimated)
    np.testing.assert_array_equal(first.panels[2].samples, second.panels[2].samples)
    assert not np.array_equal(first.fields.estimated, toy.score_fields(steps=3, seed=2).estimated)


def test_training_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    toy.train(steps=1, seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
