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
