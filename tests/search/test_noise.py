"""Laws of the ladder search, on a tiny network and random images."""

from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.generate.draw import draw
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.networks import make_network
from pipeline.ncsn.prior import Law
from pipeline.ncsn.samplers.dpm_solver import DPMSolver
from pipeline.reporting.figures.searches import side_by_side
from pipeline.search import SearchStore, search_here
from pipeline.search.noise import space, tune
from pipeline.search.noise_trial import NoiseSetup, trial
from pipeline.search.records import FINISHED, TrialRecord, png
from pipeline.training.loop import train
from tests.search.short import BOUNDS, START, made


@pytest.fixture(scope="module")
def setup() -> NoiseSetup:
    return made()


def test_a_trial_trains_on_and_is_judged_at_its_rungs(setup: NoiseSetup) -> None:
    results = list(trial(START.plain(), setup))
    assert [result["steps"] for result in results] == [2, 10]
    assert [result["nfe"] for result in results] == [19, 19], "6 levels of 3 steps and denoising, counted"
    assert results[1]["loss"] < results[0]["loss"]
    assert results == list(trial(START.plain(), setup)), "a function of its settings and seed"
    longer = replace(setup, budget=replace(setup.budget, rungs=(2, 4, 10)))
    assert results == [result for result in trial(START.plain(), longer) if result["steps"] != 4]


def test_a_promoted_trial_goes_on_exactly(setup: NoiseSetup) -> None:
    judged = replace(setup, budget=replace(setup.budget, rungs=(2, 4, 10), num_trials=2))
    straight = replace(setup, budget=replace(setup.budget, rungs=(10,)))
    found = search_here(
        trial, space(START, [START], BOUNDS, longest=19), metric="fid", budget=judged.budget,
        points=[START.plain()], shared={"setup": judged},
    )  # fmt: skip
    assert len(found[0].rungs) == 3
    (reported,) = trial(found[0].settings, straight)
    assert (reported, png(reported.samples)) == (found[0].rungs[2], found[0].picture)


def test_the_moving_average_spans_the_same_fraction_of_a_trial_as_of_the_full_training(
    setup: NoiseSetup,
) -> None:
    # .99 over 100 steps: a whole training. Over 10 steps that is .9.
    assert setup.task(START).ema.rate == pytest.approx(0.9)
    assert replace(setup, full_steps=10**6).task(START).ema.rate == 0.0
    assert replace(setup, full_steps=1).task(START).ema.rate == 0.99, "never longer than the recipe's"


@pytest.mark.parametrize("num_levels", [2, 7, 18, 19])
def test_the_objective_spends_its_budget_and_not_more(setup: NoiseSetup, num_levels: int) -> None:
    sampler = setup.sampler(Ladder(2.0, 0.05, num_levels))
    spent = sampler.ladder.num_levels * sampler.options["steps_per_level"] + 1
    assert spent <= setup.max_nfe < spent + num_levels


def test_a_ladder_beyond_the_budget_fails_with_its_reason_before_it_trains(setup: NoiseSetup) -> None:
    with pytest.raises(UserError, match=r"20 levels and denoising exceed tune_noise\.max_nfe \(20\)"):
        next(trial(Ladder(2.0, 0.05, 20).plain(), replace(setup, recipe={})))


def test_a_trial_is_sampled_by_the_sampler_that_is_given_from_the_moments_of_its_images(setup: NoiseSetup) -> None:
    settings = DPMSolver(num_levels=3, rho=7.0, start="data")
    given = replace(setup, drawn_by=settings, max_nfe=2)
    assert given.sampler(START) == settings.on(START), "a budget is not asked for"
    first, last = trial(START.plain(), given)
    assert (first["nfe"], last["nfe"]) == (3, 3)
    law = Law.of(setup.images)
    for event in train(given.task(START), setup.images):
        state = event.state
    network = make_network(**state.task.network).eval()
    state.ema.copy_to(network)
    drawn = draw(
        network, settings.on(START), seed=given.budget.seed, indices=range(given.num_samples),
        shape=setup.images.shape[1:], law=law,
    )  # fmt: skip
    np.testing.assert_array_equal(drawn.denoised[: len(last.samples)], last.samples)
    assert given.identity() != setup.identity(), "another search"


def test_more_starting_points_than_trials_are_refused(setup: NoiseSetup) -> None:
    two = replace(setup, budget=replace(setup.budget, num_trials=2))
    others = {"a": Ladder(0.5, 0.05, 5), "b": Ladder(0.6, 0.05, 5)}
    with pytest.raises(UserError, match=r"tune_noise\.num_trials \(2\) .* at least 3"):
        tune(two, START, others, bounds=BOUNDS, resources={"cpu": 1})


def test_the_space_is_in_multiples_of_the_analytic_ladder_and_holds_the_published_one() -> None:
    ranges = space(START, [START, Ladder(0.3, 0.01, 20)], BOUNDS, longest=19)
    assert (ranges["sigma_max"].lower, ranges["sigma_max"].upper) == (0.3, 2.0)
    assert (ranges["sigma_min"].lower, ranges["sigma_min"].upper) == (0.01, 0.2)
    assert (ranges["num_levels"].lower, ranges["num_levels"].upper) == (3, 20)
    with pytest.raises(UserError, match=r"tune_noise\.sigma_min_ratio"):
        space(START, [START], {**BOUNDS, "sigma_min": [0.5, 10.0]}, longest=19)
    short = space(START, [START], BOUNDS, longest=7)["num_levels"]
    assert (short.lower, short.upper) == (3, 7), "no proposal is beyond the budget"


@pytest.mark.usefixtures("local_ray")
def test_the_search_compares_analytic_published_and_tuned(setup: NoiseSetup, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    published = Ladder(0.5, 0.05, 5)
    found = tune(setup, START, {"twin": START, "ncsn": published}, bounds=BOUNDS, resources={"cpu": 1})
    assert [Ladder.read(record.settings) for record in found.records[:2]] == [START, published]
    assert found.records[0].status == FINISHED
    lines = found.compared.lines
    assert lines["twin"] == lines["analytic"]
    assert lines["ncsn"].values["sigma_max"] == 0.5
    assert lines["tuned"].values["fid"] <= lines["analytic"].values["fid"]
    assert found.winner == Ladder.read(lines["tuned"].values)
    (analytic, ncsn, tuned, verdict) = [record.message for record in caplog.records][-4:]
    assert analytic.startswith("analytic, twin: sigma_max 2, sigma_min 0.05, num_levels 6, fid ")
    assert ncsn.startswith("ncsn: sigma_max 0.5") and tuned.startswith("tuned: sigma_max ")
    assert f"against analytic: {found.compared.verdict.tuned_against_analytic} (FID " in verdict
    assert all(a.trial < b.trial for a, b in pairwise(found.records))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches run in this process."""

    def search(*arguments: Any, resources: Any, **options: Any) -> list[TrialRecord]:
        return search_here(*arguments, **options)

    monkeypatch.setattr("pipeline.search.noise.search", search)


@pytest.mark.usefixtures("here")
def test_the_choices_are_trained_again_whole_on_seeds_of_their_own(setup: NoiseSetup, tmp_path: Path) -> None:
    found = tune(
        setup, START, {"ncsn": Ladder(0.5, 0.05, 5)}, bounds=BOUNDS, resources={}, repeats=2,
        store=SearchStore(tmp_path / "kept", "tune_noise"),
    )  # fmt: skip
    lines, again = found.compared.lines, found.compared.again
    assert set(again) == {line.trial for line in lines.values()}
    for record in again[1]:
        seeded = replace(setup, budget=replace(setup.budget, seed=record.settings["seed"]))
        assert list(record.rungs) == list(trial(START.plain(), seeded)), "of that seed, and whole"
    assert [record.settings["seed"] for record in again[1]] == [2, 3], "the search has 1"
    fids = [record.metrics["fid"] for record in again[1]]
    assert lines["analytic"].fid_again == pytest.approx(np.exp(np.mean(np.log(fids))))
    assert found.compared.verdict.noise_of == "seeds"
    assert set(found.compared.verdict.std_of_log_fid) == {2, 10}, "at every rung"
    found.write(tmp_path)
    assert len((tmp_path / "repeats.csv").read_text().splitlines()) == 1 + 2 * 2 * len(again)
    assert " further seeds)" in side_by_side(tmp_path / "best.yaml")


@pytest.mark.usefixtures("here")
def test_a_search_finds_its_own_trials_and_the_newest_finished_one_stays(setup: NoiseSetup, tmp_path: Path) -> None:
    one = replace(setup, budget=replace(setup.budget, rungs=(2,), num_trials=2))
    again = partial(tune, start=START, others={}, bounds=BOUNDS, resources={})
    store, others = SearchStore(tmp_path, "tune_noise"), SearchStore(tmp_path, "tune_noise")
    records = again(one, store=store).records
    assert again(one, store=store).records == records, "times too: nothing ran twice"
    other = again(replace(one, num_samples=17), store=others).records
    assert other[0].metrics["samples"] == 17
    store.publish()
    others.publish()
    assert len(list(tmp_path.iterdir())) == 1
    assert again(replace(one, num_samples=17), store=others).records == other
