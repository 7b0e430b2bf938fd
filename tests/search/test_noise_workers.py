"""A trial on several workers of Ray Train has the bits of one process, and its search does not halt."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.kinds import make
from pipeline.ncsn.ladder import Ladder
from pipeline.search import SearchStore, search_here
from pipeline.search.noise import space, tune
from pipeline.search.noise_trial import NoiseSetup, Segment, adopted, trained, trial
from pipeline.search.noise_workers import Team
from pipeline.search.records import FAILED, FINISHED, TrialRecord
from tests.search.short import BOUNDS, RECIPE, START, made

OTHER = Ladder(0.5, 0.05, 5)
HUGE = Ladder(1e25, 0.05, 5)
"""Beyond what float32 holds: its training fails."""


@pytest.fixture(scope="module")
def setup() -> NoiseSetup:
    """Two micro-batches, two trials at a time."""
    plain = made(micro_batches=2)
    return replace(plain, budget=replace(plain.budget, num_trials=2, rungs=(2, 4)))


def without_time(records: list[TrialRecord]) -> list[TrialRecord]:
    return [replace(record, seconds=0.0) for record in records]


@pytest.mark.usefixtures("local_ray")
def test_a_search_with_two_workers_a_trial_has_the_records_of_one(setup: NoiseSetup, tmp_path: Path) -> None:
    """Two CPUs hold the workers of one trial: the other one waits, whatever `max_concurrent` says."""
    store = SearchStore(tmp_path, "tune_noise")
    ask: dict[str, Any] = {"bounds": BOUNDS, "resources": {"cpu": 1}, "store": store}
    found = tune(setup, START, {"huge": HUGE}, workers=2, **ask)
    points = [START.plain(), HUGE.plain()]
    here = search_here(
        trial, space(START, [START, HUGE], BOUNDS, longest=setup.max_nfe - 1), metric="fid",
        budget=setup.budget, points=points, shared={"setup": setup},
    )  # fmt: skip
    assert without_time(found.records) == without_time(here)
    assert here[0].status == FINISHED and len(here[0].rungs) == 2, "a rung was gone on from"
    assert here[1].status == FAILED and here[1].reason.startswith("RuntimeError: "), "by its own name"
    again = tune(setup, START, {"huge": HUGE}, workers=1, **ask)
    assert again.records == found.records, "the number of workers names no search: times too are equal"
    store.publish()
    assert [path.name.split("-")[0] for path in tmp_path.iterdir()] == ["search"], "no checkpoint is left"


def test_more_workers_than_ray_holds_are_refused_and_fewer_run_side_by_side(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 9.0, "GPU": 5.0})
    assert [Team(2, False, tmp_path).at_once(most) for most in (1, 3, 9)] == [1, 3, 4]
    assert Team(2, True, tmp_path).at_once(9) == 2
    with pytest.raises(UserError, match=r"workers_per_trial \(6\) needs as many GPUs, but Ray has 5"):
        Team(6, True, tmp_path).at_once(1)


def test_a_training_in_parts_is_the_training_in_one(setup: NoiseSetup, tmp_path: Path) -> None:
    rungs = list(trial(START.plain(), setup))
    first = Segment(START, 2, None, tmp_path / "first")
    assert trained(first, setup) == rungs[0]
    assert trained(Segment(START, 4, first.target, None), setup) == rungs[1]


def test_a_training_goes_on_with_the_weights_of_another_ladder(setup: NoiseSetup, tmp_path: Path) -> None:
    donor = Segment(START, 2, None, tmp_path / "donor")
    trained(donor, setup)
    state, own = (adopted(donor.target, setup.task(ladder), "cpu") for ladder in (OTHER, START))  # type: ignore[arg-type]
    assert state.step == own.step == 2
    weights, own_weights = state.network.state_dict(), own.network.state_dict()
    assert weights["sigmas"].tolist() == OTHER.sigmas().tolist()
    assert state.ema.state_dict()["sigmas"].tolist() == OTHER.sigmas().tolist()
    assert all(weights[name].equal(own_weights[name]) for name in weights if name != "sigmas")
    moments = [each.optimizer.state_dict()["state"] for each in (state, own)]
    assert all(moments[0][k]["exp_avg"].equal(moments[1][k]["exp_avg"]) for k in moments[1]) and moments[1]
    fresh = trained(Segment(OTHER, 4, None, None), setup)
    assert trained(Segment(OTHER, 4, donor.target, None), setup)["loss"] != fresh["loss"]


def test_weights_for_each_level_go_on_with_their_own_alone(setup: NoiseSetup, tmp_path: Path) -> None:
    levels = replace(
        setup, recipe=RECIPE.model_copy(update={"network": make("networks", {"kind": "ncsn", "width": 4})})
    )
    donor = Segment(START, 2, None, tmp_path / "donor")
    trained(donor, levels)
    assert trained(Segment(START, 4, donor.target, None), levels)["steps"] == 4
    with pytest.raises(UserError, match="cannot continue with other levels"):
        trained(Segment(Ladder(1.0, 0.05, 6), 4, donor.target, None), levels)
