"""The kernel distance: exact on point masses, unbiased, a function of its seed."""

import warnings

import numpy as np
import pytest
import torch
from torchmetrics.image.kid import KernelInceptionDistance

from pipeline.metrics.deterministic import exact
from pipeline.metrics.kid import kernel_distance


def test_two_point_masses():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 6))

    def kernel(x, y):
        return (x @ y / 6 + 1) ** 3

    mean, std = kernel_distance(np.tile(a, (30, 1)), np.tile(b, (40, 1)), subsets=4, subset_size=20, seed=0)
    assert mean == pytest.approx(kernel(a, a) + kernel(b, b) - 2 * kernel(a, b), rel=1e-10)
    assert std == pytest.approx(0, abs=1e-10)


def test_unbiased_where_both_sides_have_one_law():
    rng = np.random.default_rng(1)
    draws = [kernel_distance(*rng.normal(size=(2, 50, 8)), subsets=1, subset_size=50, seed=0)[0] for _ in range(200)]
    error = np.std(draws) / np.sqrt(len(draws))
    assert abs(np.mean(draws)) < 4 * error
    assert min(draws) < 0 < max(draws)


def test_train_against_itself_is_near_zero_and_noise_is_not(digits, classifier):
    rng = np.random.default_rng(2)
    train = classifier.features(digits.train)
    noise = classifier.features(rng.integers(0, 256, digits.held_out.shape, dtype=np.uint8))
    options = {"subsets": 50, "subset_size": 200, "seed": 0}
    itself, std = kernel_distance(train, train, **options)
    assert abs(itself) < std
    assert kernel_distance(noise, train, **options)[0] > 20 * std


def test_the_seed_decides_and_the_global_generator_is_left_alone():
    a, b = np.random.default_rng(3).normal(size=(2, 60, 4))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = kernel_distance(a, b, subsets=5, subset_size=20, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert kernel_distance(a, b, subsets=5, subset_size=20, seed=1) == first
    assert kernel_distance(a, b, subsets=5, subset_size=20, seed=2) != first


def test_equals_torchmetrics_from_one_generator():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(70, 9)).astype(np.float32), rng.gamma(1.0, size=(90, 9)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*will save all extracted features")
        metric = KernelInceptionDistance(torch.nn.Identity(), subsets=6, subset_size=40)
    metric.update(torch.from_numpy(b).double(), real=True)
    metric.update(torch.from_numpy(a).double(), real=False)
    with exact(5):
        expected = tuple(float(value) for value in metric.compute())
    assert kernel_distance(a, b, subsets=6, subset_size=40, seed=5) == pytest.approx(expected, rel=1e-10)
