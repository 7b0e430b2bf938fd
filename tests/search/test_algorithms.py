"""The rules by which trials are proposed and stopped, without any trial."""

import math
from dataclasses import replace
from statistics import median

import optuna
import pytest

from pipeline.search import Budget, Categorical, Range, Space
from pipeline.search.algorithms import Halving, Proposer
from pipeline.search.records import Settings

BUDGET = Budget(num_trials=9, rungs=(1, 2), reduction_factor=2, max_concurrent=2, seed=0)
KINDS: Space = {
    "kind": Categorical(("a", "b", "c")),
    "x": Range(0.1, 10.0, only=("kind", ("a", "b"))),
    "y": Range(0.1, 10.0, only=("kind", ("c",))),
}


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


def asked(budget: Budget, points: list[Settings], values: dict[str, float]) -> list[Settings]:
    """A search's proposals, where a trial's result follows from its kind, or is its x."""
    proposer = Proposer(KINDS, points, budget)
    made: list[Settings] = []
    for place in range(budget.num_trials):
        settings = proposer.ask()
        assert settings is not None
        made.append(settings)
        proposer.tell(place, values.get(settings["kind"], settings.get("x", 0.0)))
    return made


def test_kinds_take_turns_after_the_points_and_the_better_half_from_half_of_the_trials() -> None:
    budget = replace(BUDGET, num_trials=16)
    points = [{"kind": "c", "y": 3.0}, {"kind": "a", "x": 1.0}]
    made = asked(budget, points, {"b": 1e9, "c": math.inf})
    assert made[:2] == points
    assert "".join(settings["kind"] for settings in made[2:]) == "abcabc" + "abababab"
    worst = asked(budget, points, {"b": 1e9, "c": 0.0})
    assert "".join(settings["kind"] for settings in worst[2:]) == "abcabc" + "acacacac"
    others = asked(replace(budget, seed=1), points, {"b": 1e9, "c": math.inf})
    assert [s.get("x") for s in made[2:]] != [s.get("x") for s in others[2:]]


def test_a_kind_learns_from_its_own_trials_whatever_the_others_show() -> None:
    budget = replace(BUDGET, num_trials=60)
    made = [s["x"] for s in asked(budget, [], {"b": 50.0, "c": 0.0}) if s["kind"] == "a"]
    alike = [s["x"] for s in asked(budget, [], {"b": 0.0, "c": 1e9}) if s["kind"] == "a"]
    assert made == alike
    assert median(made[-10:]) < 0.5 < median(made[:4]), "x is what its trials end with"


def test_random_search_draws_the_kind_too() -> None:
    budget = replace(BUDGET, num_trials=60, algorithm="random")
    kinds = [settings["kind"] for settings in asked(budget, [], {})]
    assert set(kinds) == {"a", "b", "c"} and kinds != ["a", "b", "c"] * 20


def test_settings_are_modelled_jointly_whatever_optunas_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Optuna 4 has another default than 5, which gives other trials from the first that TPE proposes."""
    given: list[object] = []
    whole = optuna.samplers.TPESampler.__init__

    def noted(self: optuna.samplers.TPESampler, **settings: object) -> None:
        given.append(settings.get("multivariate"))
        whole(self, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(optuna.samplers.TPESampler, "__init__", noted)
    Proposer({"x": Range(0.1, 10.0)}, [], BUDGET)
    assert given == [True]
