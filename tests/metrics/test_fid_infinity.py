"""FID at infinity against Gaussians whose distance is known, its error against its spread."""

import numpy as np
import pytest
import torch

from pipeline.metrics.fid import Moments, distance, moments, standard_error
from pipeline.metrics.fid_infinity import fid_infinity

DIM = 16
REFERENCE = Moments(torch.zeros(DIM, dtype=torch.float64), torch.eye(DIM, dtype=torch.float64), 10**6)
"""The standard normal law itself."""


def drawn(seed, n, std=1.2, mean=0.1):
    return mean + std * np.random.default_rng(seed).standard_normal((n, DIM))


def infinity(x, points=15, seed=0):
    return fid_infinity(x, REFERENCE, points=points, stderr=standard_error(x, REFERENCE), seed=seed)


TRUTH = DIM * (0.1**2 + 0.2**2)


@pytest.fixture(scope="module")
def repeated():
    """150 sets of 500 samples: FID, FID at infinity and the errors stated."""
    sets = [drawn(seed, 500) for seed in range(150)]
    found = [infinity(x, seed=k) for k, x in enumerate(sets)]
    return {
        "fid": np.array([distance(moments(x), REFERENCE) for x in sets]),
        "fid_stderr": np.array([standard_error(x, REFERENCE) for x in sets]),
        **{key: np.array([f[key] for f in found]) for key in ("fid_infinity", "fid_infinity_stderr")},
    }


def test_three_quarters_of_the_bias_and_more_are_gone(repeated):
    """What is left is of order 1/N^2."""
    bias = {key: repeated[key].mean() - TRUTH for key in ("fid", "fid_infinity")}
    assert bias["fid"] > 10 * repeated["fid"].std() / 150**0.5
    assert abs(bias["fid_infinity"]) < 0.25 * bias["fid"]


@pytest.mark.parametrize("key", ["fid", "fid_infinity"])
def test_the_stated_error_is_the_spread_over_draws_of_all_samples(repeated, key):
    assert repeated[f"{key}_stderr"].mean() == pytest.approx(repeated[key].std(), rel=0.2)


def test_an_exact_line_has_its_intercept(monkeypatch):
    monkeypatch.setattr("pipeline.metrics.fid_infinity.distance", lambda a, b: 3.0 + 500 / a.n)
    found = infinity(drawn(0, 400), points=6)
    assert found["fid_infinity"] == pytest.approx(3, rel=1e-9)
    alone = standard_error(drawn(0, 400), REFERENCE)
    assert found["fid_infinity_stderr"] == pytest.approx(alone, rel=1e-6)


def test_numbers_of_samples_go_from_a_tenth_or_2_d_to_all(monkeypatch):
    seen = []
    monkeypatch.setattr("pipeline.metrics.fid_infinity.distance", lambda a, b: float(seen.append(a.n) or a.n))
    for n in (1000, 100):
        infinity(drawn(0, n), points=4)
    assert seen == [100, 400, 700, 1000, 32, 55, 77, 100]


def test_too_few_samples_are_refused_with_the_reason():
    found = infinity(drawn(0, 4 * DIM - 1))
    assert (found["fid_infinity"], found["fid_infinity_stderr"]) == (None, None)
    assert "63 samples are below the 64" in found["fid_infinity_not_measured"]
    assert infinity(drawn(0, 4 * DIM))["fid_infinity"] is not None


def test_the_seed_decides():
    x = drawn(0, 200)
    first, again, other = (infinity(x, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_features_that_are_always_0_change_nothing():
    x, none = drawn(0, 200), np.zeros((200, 3))
    wider = Moments(torch.zeros(DIM + 3).double(), torch.eye(DIM + 3).double()[:DIM], 10**6)
    expected = standard_error(x, REFERENCE)
    assert standard_error(np.hstack([x, none]), wider) == pytest.approx(expected, rel=1e-9)


def test_the_error_of_fid_in_closed_form():
    """With covariances 1 and s^2, T = 1/s: the influence of x is 2 d x + (1 - 1/s) |x|^2."""
    z = np.random.default_rng(0).standard_normal((100, DIM))
    z = np.linalg.qr(z - z.mean(axis=0))[0] * np.sqrt(99)
    for std, mean in ((1.0, 0.5), (1.5, 0.0), (0.5, 0.3)):
        influence = 2 * mean * std * z.sum(axis=1) + (1 - 1 / std) * std**2 * (z**2).sum(axis=1)
        found = standard_error(mean + std * z, REFERENCE)
        assert found == pytest.approx(influence.std(ddof=1) / 10, rel=1e-9)
