"""The Frechet distance against closed forms and against other implementations."""

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.image.fid import FrechetInceptionDistance

from pipeline.metrics.fid import SHARD, distance, frechet_distance, moments, standard_error
from pipeline.ncsn.errors import UserError


def exact_sample(rng, n, mean, root):
    """Points (n, D) whose sample mean is `mean` and sample covariance `root.T @ root`, to round-off."""
    z = rng.standard_normal((n, len(mean)))
    z -= z.mean(axis=0)
    z = np.linalg.qr(z)[0] * np.sqrt(n - 1)
    return z @ root + mean


def torchmetrics_fid(a, b):
    class Identity(torch.nn.Identity):
        num_features = a.shape[1]

    metric = FrechetInceptionDistance(Identity()).set_dtype(torch.float64)
    metric.update(torch.from_numpy(b), real=True)
    metric.update(torch.from_numpy(a), real=False)
    return float(metric.compute())


@given(seed=st.integers(0, 1000), dim=st.integers(1, 12))
def test_closed_form_where_covariances_commute(seed, dim):
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    (std_a, std_b), (mean_a, mean_b) = rng.uniform(0, 3, (2, dim)), rng.normal(size=(2, dim))
    a = exact_sample(rng, 40, mean_a, np.diag(std_a) @ axes)
    b = exact_sample(rng, 50, mean_b, np.diag(std_b) @ axes)
    expected = np.sum((mean_a - mean_b) ** 2) + np.sum((std_a - std_b) ** 2)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_closed_form_where_covariances_do_not_commute():
    rng = np.random.default_rng(0)
    root_a, root_b = rng.normal(size=(2, 6, 6))
    a, b = exact_sample(rng, 40, np.zeros(6), root_a), exact_sample(rng, 50, np.ones(6), root_b)
    s_a, s_b = root_a.T @ root_a, root_b.T @ root_b
    expected = 6 + np.trace(s_a + s_b - 2 * scipy.linalg.sqrtm(s_a @ s_b).real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("dim", [3, 64])
def test_equals_torchmetrics(dim):
    rng = np.random.default_rng(1)
    a = rng.normal(size=(400, dim)) @ rng.normal(size=(dim, dim))
    b = rng.gamma(1.0, size=(700, dim)) @ rng.normal(size=(dim, dim))
    assert frechet_distance(a, b) == pytest.approx(torchmetrics_fid(a, b), rel=1e-6)


def test_equals_torchmetrics_on_features_of_images(digits, classifier):
    a, b = classifier.features(digits.held_out), classifier.features(digits.train)
    expected = torchmetrics_fid(a.astype(np.float64), b.astype(np.float64))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_fewer_points_than_dimensions():
    rng = np.random.default_rng(2)
    a = rng.normal(size=(10, 40))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-11)
    left, right = np.zeros((2, 10, 40))
    left[:, :20], right[:, 20:] = rng.normal(size=(2, 10, 20))
    means = np.sum((left.mean(axis=0) - right.mean(axis=0)) ** 2)
    traces = left.var(axis=0, ddof=1).sum() + right.var(axis=0, ddof=1).sum()
    assert frechet_distance(left, right) == pytest.approx(means + traces, rel=1e-12)


def test_symmetric_and_quadratic_and_blind_to_rotation():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(30, 5)), rng.normal(1, 2, size=(60, 5))
    axes = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    value = frechet_distance(a, b)
    assert frechet_distance(b, a) == pytest.approx(value, rel=1e-12)
    assert frechet_distance(3 * a + 7, 3 * b + 7) == pytest.approx(9 * value, rel=1e-12)
    assert frechet_distance(a @ axes, b @ axes) == pytest.approx(value, rel=1e-12)


def test_bias_of_finite_samples_falls_as_one_over_n():
    rng = np.random.default_rng(4)

    def bias(n):
        return np.mean([frechet_distance(*rng.normal(size=(2, n, 8))) for _ in range(40)])

    assert bias(200) / bias(800) == pytest.approx(4, rel=0.15)


def test_kept_moments_give_the_same_bits_whatever_the_threads():
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(360, 64)), rng.normal(size=(1077, 64))
    value, threads = frechet_distance(a, b), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert distance(moments(a), moments(b)) == value
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_one_sample_has_no_covariance():
    with pytest.raises(UserError, match="two samples"):
        frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))


def test_moments_of_chosen_rows_are_those_of_a_copy():
    x = np.random.default_rng(5).normal(size=(9_000, 6)).astype(np.float32)
    rows = np.random.default_rng(6).permutation(9_000)[:8_500]
    whole, chosen = moments(x[rows]), moments(x, rows)
    assert torch.equal(whole.mean, chosen.mean) and torch.equal(whole.root, chosen.root)


def test_the_standard_error_of_many_is_the_formula_s_on_all_at_once():
    """More than a shard of features, which are centred and carried a shard at a time."""
    rng = np.random.default_rng(7)
    x, reference = rng.normal(size=(SHARD + 500, 3)), moments(rng.normal(0.2, 1.1, size=(4_000, 3)))
    mean, cov = x.mean(0), np.cov(x.T)
    root = scipy.linalg.sqrtm(cov)
    inner = scipy.linalg.sqrtm(root @ (reference.root.T @ reference.root).numpy() @ root)
    carried = np.linalg.inv(root) @ inner @ np.linalg.inv(root)
    centred = x - mean
    moved = 2 * centred @ (mean - reference.mean.numpy()) + (centred**2).sum(1)
    moved -= np.einsum("ni,ij,nj->n", centred, carried, centred)
    assert standard_error(x, reference) == pytest.approx(moved.std(ddof=1) / len(x) ** 0.5, rel=1e-6)
