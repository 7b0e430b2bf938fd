"""Laws of the search for p_mean and p_std, the noise of a network that is trained at any sigma."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.files import read_yaml
from pipeline.ncsn import kinds
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.networks import make_network
from pipeline.reporting.figures.searches import side_by_side
from pipeline.search import SearchStore, search_here
from pipeline.search.log_normal import LogNormal, analytic_law, read_noise_range, spread
from pipeline.search.noise import FoundNoise, space, tune
from pipeline.search.noise_trial import NoiseSetup, trial
from pipeline.search.pbt import FACTORS, perturbed
from pipeline.search.records import FINISHED, TrialRecord
from pipeline.training import batches
from tests.search.short import EDM, LAW_BOUNDS, RANGE, made

LADDER = Ladder(40.0, 0.001, 18)
PUBLISHED = {"published": LogNormal(LADDER, -1.9, 1.2)}


@pytest.fixture(scope="module")
def setup() -> NoiseSetup:
    return made(recipe=EDM, max_nfe=7)


Run = Callable[..., FoundNoise]


@pytest.fixture
def run(setup: NoiseSetup, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The stage's search in this process."""

    def here(*arguments: Any, resources: Any, **options: Any) -> list[TrialRecord]:
        return search_here(*arguments, **options)

    def searched(one: NoiseSetup = setup, **options: Any) -> FoundNoise:
        return tune(one, analytic_law(one.images, LADDER), PUBLISHED, bounds=LAW_BOUNDS, resources={}, **options)

    monkeypatch.setattr("pipeline.search.noise.search", here)
    return searched


def plain(records: list[TrialRecord]) -> list[TrialRecord]:
    return [replace(record, seconds=0.0) for record in records]


def test_the_analytic_law_is_edms_at_the_datas_spread() -> None:
    quarter = np.array([64, 192], np.uint8).repeat(60).reshape(2, 1, 6, 10)
    assert spread(quarter) == pytest.approx(64 / 255)
    analytic = analytic_law(quarter, LADDER)
    assert analytic.ladder == LADDER and analytic.p_std == 1.2
    assert math.exp(analytic.p_mean) / (64 / 255) == pytest.approx(math.exp(-1.2) / 0.5)
    many = np.random.default_rng(0).integers(0, 256, (9000, 1, 2, 2), np.uint8)
    assert spread(many) == pytest.approx(float((many / 255).std()), rel=1e-12), "in parts"
    with pytest.raises(UserError, match="all pixels of the training images are equal"):
        spread(np.full((3, 1, 2, 2), 7, np.uint8))


def test_a_law_is_read_as_it_was_written() -> None:
    law = LogNormal(LADDER, -1.5, 1.1)
    assert law.plain() == {**RANGE, "p_mean": -1.5, "p_std": 1.1}
    assert read_noise_range(law.plain() | {"rule": "tuned_continuous"}) == law and read_noise_range(RANGE) == LADDER


def test_the_space_adds_to_p_mean_and_multiplies_p_std() -> None:
    start, far = LogNormal(LADDER, -1.5, 1.2), LogNormal(LADDER, -3.0, 1.2)
    ranges = space(start, [start, far], LAW_BOUNDS, longest=6)
    assert (ranges["p_mean"].lower, ranges["p_mean"].upper, ranges["p_mean"].log) == (-3.0, -0.5, False)
    assert (ranges["p_std"].lower, ranges["p_std"].upper) == pytest.approx((0.6, 1.8)) and ranges["p_std"].log


def test_a_trial_trains_on_its_own_law(setup: NoiseSetup) -> None:
    law = LogNormal(LADDER, -0.5, 0.6)
    task = setup.task(law)
    assert kinds.plain(task.loss) == {"kind": "edm", "p_mean": -0.5, "p_std": 0.6}
    ladder = torch.tensor(task.network["sigmas"])
    logs = task.loss.sigmas(batches.generator(0, 0, 0), 20_000, ladder).log()
    assert (float(logs.mean()), float(logs.std())) == pytest.approx((-0.5, 0.6), abs=0.02)
    assert len(task.network["sigmas"]) == 18 and make_network(**task.network)


@pytest.mark.parametrize(("max_nfe", "levels"), [(3, 2), (4, 2), (7, 4), (35, 18), (36, 18)])
def test_samples_are_heuns_on_the_levels_that_the_budget_holds(setup: NoiseSetup, max_nfe: int, levels: int) -> None:
    sampler = replace(setup, max_nfe=max_nfe).sampler(LogNormal(LADDER, -1.5, 1.2))
    assert (sampler.kind, sampler.ladder) == ("heun", Ladder(40.0, 0.001, levels, rho=7.0))


def test_the_search_compares_analytic_published_and_tuned(run: Run, tmp_path: Path) -> None:
    found = run(repeats=2, store=SearchStore(tmp_path / "kept", "tune_noise"))
    assert [set(record.settings) for record in found.records] == [{"p_mean", "p_std"}] * 4
    lines = found.compared.lines
    assert list(lines) == ["tuned", "analytic", "published"]
    assert (lines["published"].values["p_mean"], lines["published"].trial) == (-1.9, 2)
    assert {line.values["nfe"] for line in lines.values()} == {7} and found.compared.verdict.noise_of == "seeds"
    assert isinstance(found.winner, LogNormal) and found.winner.ladder == LADDER
    assert found.winner.p_mean == lines["tuned"].values["p_mean"]
    found.write(tmp_path)
    assert read_yaml(tmp_path / "best.yaml")["analytic"]["p_std"] == 1.2
    assert "`published`: log σ of mean -1.9 and standard deviation 1.2, FID" in side_by_side(tmp_path / "best.yaml")
    assert not list(tmp_path.glob("*.png")), "the report draws"
    assert plain(run().records) == plain(found.records), "digit for digit"


@pytest.mark.usefixtures("local_ray")
def test_a_trial_of_two_workers_has_the_digits_of_one(setup: NoiseSetup, request: pytest.FixtureRequest) -> None:
    one = replace(setup, micro_batches=2, budget=replace(setup.budget, num_trials=2, rungs=(2,)))
    teams = tune(one, analytic_law(one.images, LADDER), PUBLISHED, bounds=LAW_BOUNDS, resources={"cpu": 1}, workers=2)
    here: Run = request.getfixturevalue("run")
    assert plain(teams.records) == plain(here(one).records)


def test_a_population_multiplies_the_median_of_sigma(run: Run, setup: NoiseSetup) -> None:
    start = LogNormal(LADDER, 0.1, 1.2)
    ranges = space(start, [start], LAW_BOUNDS, longest=6)
    seen = {
        perturbed({"p_mean": 0.1, "p_std": 1.2}, ranges, np.random.default_rng(seed))["p_mean"] for seed in range(20)
    }
    assert sorted(seen) == pytest.approx([0.1 + math.log(factor) for factor in FACTORS])
    budget = replace(setup.budget, num_trials=4, rungs=(2, 4), algorithm="pbt")
    found = run(replace(setup, budget=budget))
    copies = [r for r in found.records if r.settings["parent"] != r.settings["member"]]
    assert len(copies) == 1 and [r.status for r in found.records[4:]] == [FINISHED] * 4
    assert plain(run(replace(setup, budget=budget)).records) == plain(found.records)


def test_a_trial_is_a_function_of_its_settings(setup: NoiseSetup) -> None:
    given = replace(setup, given=RANGE)
    settings = {"p_mean": -1.5, "p_std": 1.2}
    results = list(trial(settings, given))
    assert results == list(trial(settings, given))
    assert results[-1]["loss"] != list(trial(settings | {"p_mean": -0.5}, given))[-1]["loss"]
