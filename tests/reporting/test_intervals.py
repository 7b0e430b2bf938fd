"""Intervals: the textbook's numbers, and as often right as they say."""

import numpy as np
import pytest
from scipy import stats

from pipeline.reporting.intervals import Interval, nested

RNG = np.random.default_rng(0)


def drawn(seeds: int, sets: int, training: float, sampling: float) -> list[list[float]]:
    """Values of mean 10 that vary with the network and with the samples."""
    networks = RNG.normal(10, training, (seeds, 1))
    return [list(row) for row in networks + RNG.normal(0, sampling, (seeds, sets))]


def interval(values: list[list[float]]) -> Interval:
    found = nested("fid", values)
    assert found is not None
    return found


def test_a_worked_example() -> None:
    found = interval([[1.0, 3.0], [5.0, 7.0], [9.0, 11.0]])
    assert (found.mean, found.dof) == (6, 2)
    assert found.std_sampling == pytest.approx(np.sqrt(2))
    assert found.std_training == pytest.approx(np.sqrt(16 - 2 / 2)), "of the means, less sampling's share"
    assert found.stderr == pytest.approx(np.sqrt(16 / 3))
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 2, 6, np.sqrt(16 / 3)))


@pytest.mark.parametrize("axis", [0, 1])
def test_without_nesting_it_is_students(axis: int) -> None:
    values = [9.1, 10.4, 11.3, 10.0]
    found = interval([values] if axis else [[value] for value in values])
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.std_training is None
    assert (found.std_sampling is None) == (axis == 0), "with one set each the two cannot be told apart"


@pytest.mark.parametrize(("seeds", "sets", "training"), [(3, 2, 2.0), (3, 1, 2.0), (4, 3, 0.0), (1, 4, 0.0)])
def test_intervals_hold_the_truth_as_often_as_they_say(seeds: int, sets: int, training: float) -> None:
    found = [interval(drawn(seeds, sets, training, 1.0)) for _ in range(3000)]
    for level in (0.9, 0.95):
        inside = np.mean([low <= 10 <= high for low, high in (one.at(level) for one in found)])
        assert abs(inside - level) < 4 * np.sqrt(level * (1 - level) / 3000)


def test_the_variance_is_split_in_two() -> None:
    found = [interval(drawn(6, 3, 4.0, 2.0)) for _ in range(1500)]
    parts = np.array([(one.std_training or 0, one.std_sampling or 0) for one in found]) ** 2
    assert parts.mean(axis=0) == pytest.approx([16, 4], rel=0.05)


def test_networks_more_alike_than_their_samples_have_no_variance_of_their_own() -> None:
    assert interval([[1.0, 5.0], [5.0, 1.0]]).std_training == 0


def test_one_value_has_no_interval_and_unequal_numbers_of_sets_none_either() -> None:
    assert nested("fid", [[1.0]]) is None
    with pytest.raises(ValueError, match=r"fid.*\[2, 1\]"):
        nested("fid", [[1.0, 2.0], [1.0]])
