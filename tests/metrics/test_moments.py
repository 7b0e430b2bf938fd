"""Moments by shards: what numpy computes from the whole, whatever the shards, and no more memory than one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.metrics import fid
from pipeline.metrics.fid import distance, merged, moments, part
from pipeline.ncsn.errors import UserError

sizes = st.lists(st.integers(1, 9), min_size=2, max_size=6)


@settings(deadline=None)  # torch imports more at its first call
@given(seed=st.integers(0, 1000), dim=st.integers(1, 12), sizes=sizes)
def test_shards_of_any_size_merge_to_mean_and_covariance_of_the_whole(seed, dim, sizes):
    """Rounding: 1e-13 of the largest value, on features far from 0, with ranks below the dimension."""
    rng = np.random.default_rng(seed)
    x = rng.normal(5, 2, (sum(sizes), dim)) @ rng.normal(size=(dim, dim))
    found = merged(part(rows) for rows in np.split(x, np.cumsum(sizes)[:-1]))
    largest = np.abs(x).max()
    assert found.n == len(x)
    assert np.allclose(found.mean.numpy(), x.mean(axis=0), rtol=0, atol=1e-13 * largest)
    covariance = (found.root.T @ found.root).numpy()
    assert np.allclose(covariance, np.cov(x, rowvar=False), rtol=0, atol=1e-13 * largest**2)
    assert len(found.root) <= max(dim, len(x) + len(sizes))


def test_moments_are_those_of_their_shards_bit_for_bit(monkeypatch):
    monkeypatch.setattr(fid, "SHARD", 50)
    x = np.random.default_rng(0).normal(size=(120, 7)).astype(np.float32)
    whole, merges = moments(x), merged(map(part, (x[:50], x[50:100], x[100:])))
    assert whole.mean.equal(merges.mean) and whole.root.equal(merges.root)
    monkeypatch.setattr(fid, "SHARD", 1000)
    assert distance(whole, moments(x)) == pytest.approx(0, abs=1e-13)


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_features_are_refused(rows):
    with pytest.raises(UserError, match=f"two samples on either side, not {rows}"):
        moments(np.zeros((rows, 3)))


@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-8, 0.0], ids=["even", "uneven", "nearly flat", "flat"])
def test_a_subsets_moments_by_products_are_the_plain_ones(spread, monkeypatch):
    """Along the last feature, far from 0, the subset varies so little; where products lose digits they are not used."""
    monkeypatch.setattr(fid, "SHARD", 100)
    rng = np.random.default_rng(0)
    x = rng.normal(3, 1, (700, 9))
    x[:, -1] = 50 + spread * rng.normal(size=700)
    rows, reference = rng.permutation(700)[:330], moments(rng.normal(size=(400, 9)))
    plain, found = moments(x, rows), fid.subset_moments(x, rows, moments(x))
    assert found.n == 330 and np.allclose(found.mean, plain.mean, rtol=1e-13)
    assert distance(found, reference) == pytest.approx(distance(plain, reference), rel=1e-11)
    assert distance(found, plain) == pytest.approx(0, abs=1e-11)
    assert found.root.equal(plain.root) == (spread <= 1e-8), "the plain way where it has to be"
