"""Nearest training images against brute force, and a statistic that tells copies from fresh data."""

import tracemalloc

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from pipeline.metrics import distances, neighbours
from pipeline.metrics.neighbours import distance_ratio, nearest


def brute_force(x, train, k):
    d = cdist(x.reshape(len(x), -1).astype(float), train.reshape(len(train), -1).astype(float))
    order = np.argsort(d, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(d, order, axis=1), order


@pytest.mark.parametrize("k", [1, 5])
def test_nearest_of_bytes_are_those_of_brute_force_ties_and_all(digits, k):
    """Few grey levels, so that many distances are equal."""
    coarse = (digits.train // 128 * 128).astype(np.uint8)[:, :, ::2, ::2]
    x = (digits.held_out // 128 * 128).astype(np.uint8)[:, :, ::2, ::2]
    expected = brute_force(x, coarse, k)
    assert k == 1 or (np.diff(expected[0]) == 0).any()
    for mine, theirs in zip(nearest(x, coarse, k=k), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)


@pytest.mark.parametrize(("tile", "rows"), [(7, 64), (299, 3), (1, 1)])
def test_parts_held_at_once_change_nothing(digits, monkeypatch, tile, rows):
    x, train = digits.held_out[:40], digits.train[:300]
    whole = nearest(x, train, k=5)
    monkeypatch.setattr(distances, "_TILE", tile)
    monkeypatch.setattr(neighbours, "_ROWS", rows)
    for part, all_at_once in zip(nearest(x, train, k=5), whole, strict=True):
        np.testing.assert_array_equal(part, all_at_once)


def test_a_copy_is_at_distance_0_far_from_the_origin():
    """Where |a|^2 + |b|^2 - 2 a b leaves 1e-4 of round-off."""
    train = 1e4 + np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    distances, indices = nearest(train[[7, 3]], train, k=2)
    assert distances[:, 0].tolist() == [0, 0] and (distances[:, 1] > 0.1).all()
    assert indices[:, 0].tolist() == [7, 3]


def test_memory_does_not_grow_with_the_training_set(tmp_path):
    np.save(tmp_path / "train.npy", np.random.default_rng(0).integers(0, 256, (6000, 3072), dtype=np.uint8))
    train = np.load(tmp_path / "train.npy", mmap_mode="r")
    tracemalloc.start()
    try:
        nearest(train[:4], train, k=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60e6  # of 147 MB in float64; torch's own are as large as a part at most


def test_fresh_samples_have_ratio_1_and_copies_0():
    rng = np.random.default_rng(0)
    train, held_out, fresh = rng.normal(size=(3, 600, 5))
    kept, far = (nearest(x, train, k=1)[0][:, 0] for x in (held_out, 3 * fresh))
    near = nearest(fresh, train, k=1)[0][:, 0]
    found = distance_ratio(near, kept, seed=0)
    assert found["low"] < 1 < found["high"] and found["high"] - found["low"] < 0.3
    half = nearest(np.concatenate([train[:400], fresh[:200]]), train, k=1)[0][:, 0]
    assert distance_ratio(half, kept, seed=0)["ratio"] == 0
    assert distance_ratio(near / 2, kept, seed=0)["high"] < 0.7
    assert distance_ratio(far, kept, seed=0)["low"] > 1.5


def test_the_interval_covers_the_true_ratio_19_times_in_20():
    """The nearest distances of an exponential law, their true median ratio 0.8: 300 repetitions."""
    rng = np.random.default_rng(1)
    draws = [(0.8 * rng.exponential(size=150), rng.exponential(size=100)) for _ in range(300)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "_RESAMPLINGS", 150)
        found = [distance_ratio(*draw, seed=k) for k, draw in enumerate(draws)]
    covered = np.mean([f["low"] <= 0.8 <= f["high"] for f in found])
    assert 0.9 < covered < 0.98


def test_the_seed_decides():
    a, b = np.random.default_rng(2).exponential(size=(2, 80))
    assert distance_ratio(a, b, seed=1) == distance_ratio(a, b, seed=1)
    first, second = (distance_ratio(a, b, seed=seed) for seed in (1, 2))
    assert first["ratio"] == second["ratio"] and first["low"] != second["low"]


def test_held_out_copies_leave_nothing_to_compare_with():
    found = distance_ratio(np.ones(50), np.r_[np.zeros(30), np.ones(20)], seed=0)
    assert (found["ratio"], found["low"], found["high"]) == (None, None, None)
    assert "held-out" in found["not_measured"]
