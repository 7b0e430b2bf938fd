"""The rules by which trials are proposed and stopped, without any trial."""

from dataclasses import replace

from pipeline.distributed.search import Budget, Range
from pipeline.distributed.search.decisions import Halving, Proposer

BUDGET = Budget(num_trials=9, rungs=(1, 2), reduction_factor=2, max_concurrent=2, seed=0)


def test_a_trial_is_judged_at_its_rung_by_those_far_enough_before_it() -> None:
    halving = Halving(BUDGET)
    assert not halving.stops(0, 0, 5.0)
    assert not halving.stops(1, 0, 9.0), "trial 0 may still run"
    assert halving.stops(2, 0, 6.0), "beyond 5"
    assert not halving.stops(4, 0, 5.9), "within the median of 5, 9 and 6, whatever 3 will show"
    assert not halving.stops(3, 0, 6.9), "within the median of 5 and 9, whatever 4 has shown"
    assert halving.stops(5, 0, 6.5), "beyond the median of 5, 9, 6 and 6.9"
    assert not halving.stops(4, 1, 99.0), "the first at its rung"


def test_of_four_the_best_goes_on() -> None:
    halving = Halving(replace(BUDGET, reduction_factor=4, max_concurrent=1))
    for place, value in enumerate((1.0, 2.0, 3.0, 4.0, 5.0)):
        assert halving.stops(place, 0, value) == (place > 0)
    assert not halving.stops(5, 0, 2.0) and halving.stops(6, 0, 2.01)


def test_settings_wait_for_the_results_that_they_follow_from() -> None:
    proposer = Proposer({"x": Range(0.1, 10.0)}, [{"x": 3.0}], BUDGET)
    assert proposer.ask() == {"x": 3.0}
    assert proposer.ask() is not None
    proposer.tell(1, 1.0)
    assert proposer.ask() is None and proposer.ask() is None, "trial 0 is not told"
    proposer.tell(0, 1.0)
    assert proposer.ask() is not None
