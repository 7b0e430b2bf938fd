"""The order of the data is a pure function of the position."""

import subprocess
import sys

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.order import _epoch, batch_indices, permutation

seeds = st.integers(0, 2**31 - 1)


@given(seed=seeds, batch=st.integers(1, 50), count=st.integers(1, 40), epochs=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_each_epoch_holds_each_image_once(seed: int, batch: int, count: int, epochs: int) -> None:
    steps = -(-epochs * count // batch)
    walk = np.concatenate([batch_indices(seed, step, batch, count) for step in range(steps)])
    for epoch in range(epochs):
        assert sorted(walk[epoch * count : (epoch + 1) * count]) == list(range(count))


@given(seed=seeds, step=st.integers(0, 10**6), count=st.integers(1, 100), parts=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_batch_size_does_not_move_a_position(seed: int, step: int, count: int, parts: int) -> None:
    whole = batch_indices(seed, step, 8 * parts, count)
    pieces = [batch_indices(seed, step * parts + k, 8, count) for k in range(parts)]
    np.testing.assert_array_equal(whole, np.concatenate(pieces))


def test_no_memory_of_earlier_calls() -> None:
    """The same in any order of calls, from an empty cache, and in another process."""
    steps = [5, 0, 900, 5]
    first = [batch_indices(3, step, 16, 100).tolist() for step in steps]
    _epoch.cache_clear()
    again = [batch_indices(3, step, 16, 100).tolist() for step in reversed(steps)][::-1]
    code = (
        "from pipeline.data.order import batch_indices;"
        f"print([batch_indices(3, step, 16, 100).tolist() for step in {steps}])"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert first == again == eval(there)


def test_a_callers_change_stays_the_callers() -> None:
    before = batch_indices(0, 0, 10, 10)
    kept = before.copy()
    before[:] = 0
    np.testing.assert_array_equal(batch_indices(0, 0, 10, 10), kept)


def test_seeds_epochs_and_purposes_differ() -> None:
    orders = {
        tuple(permutation(50, purpose, seed, epoch)) for purpose in (1, 2) for seed in range(4) for epoch in range(4)
    }
    assert len(orders) == 32


def test_every_image_comes_at_every_place_equally_often() -> None:
    """10 images over 4,000 epochs: each place holds each image 400 times (sd 19)."""
    orders = np.stack([permutation(10, 1, 0, epoch) for epoch in range(4000)])
    counts = np.stack([np.bincount(orders[:, place], minlength=10) for place in range(10)])
    assert abs(counts - 400).max() < 5 * 19


def test_neighbours_in_one_epoch_are_none_in_the_next() -> None:
    """A pair follows one another once in 100 epochs of 100 images on average; not always."""
    orders = np.stack([permutation(100, 1, 0, epoch) for epoch in range(100)])
    pairs, counts = np.unique(np.stack([orders[:, :-1].ravel(), orders[:, 1:].ravel()]), axis=1, return_counts=True)
    assert counts.max() < 10 and pairs.shape[1] > 6000
