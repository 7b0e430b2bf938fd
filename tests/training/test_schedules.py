"""Schedules: their closed forms, and that each is a function of the step."""

import math

import pytest

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.kinds import find, kinds
from pipeline.training.schedules.constant import Constant
from pipeline.training.schedules.cosine import Cosine
from pipeline.training.schedules.warmup import Warmup


def test_each_kind_is_found_by_its_name() -> None:
    assert [find("schedules", kind) for kind in kinds("schedules")] == [Constant, Cosine, Warmup]


def test_constant_is_one() -> None:
    assert {Constant().factor(step, 10) for step in range(10)} == {1.0}


def test_a_warm_up_grows_linearly_to_one_and_stays() -> None:
    assert [Warmup(4).factor(step, 8) for step in range(8)] == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]
    assert all(Warmup(4).factor(step, 8) == Warmup(4).factor(step, 1000) for step in range(8))


def test_a_cosine_falls_from_one_by_half_a_cosine_to_its_final_fraction() -> None:
    factors = [Cosine(0, 0.1).factor(step, 100) for step in range(101)]
    assert (factors[0], factors[50], factors[100]) == pytest.approx((1.0, 0.55, 0.1))
    assert factors == sorted(factors, reverse=True)
    assert factors[25] == pytest.approx(0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2)


def test_a_cosine_starts_after_its_warm_up_even_where_that_is_longer_than_the_training() -> None:
    assert [Cosine(4, 0.0).factor(step, 8) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert [Cosine(4, 0.0).factor(step, 2) for step in range(2)] == [0.25, 0.5]


def test_settings_out_of_range_are_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"^warmup_steps is 0: it must be at least 1"):
        Warmup(0)
    with pytest.raises(UserError, match=r"^warmup_steps is -1: it must be at least 0"):
        Cosine(-1, 0.0)
    with pytest.raises(UserError, match=r"^final is 1.5: it must be from 0 to 1"):
        Cosine(0, 1.5)
