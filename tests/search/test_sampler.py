"""Laws of the sampler search, on the exact score of a mixture of images: no network, no training."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from optuna import create_study
from optuna.samplers import RandomSampler

from pipeline.files import read_yaml
from pipeline.generate.draw import draw
from pipeline.metrics.fid import distance, moments
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.networks import make_network
from pipeline.ncsn.sampler import Sampler
from pipeline.reporting.figures.curves import read_rows
from pipeline.reporting.figures.searches import SAMPLER_AXES, front, read_judged
from pipeline.reporting.figures.trials import parallel
from pipeline.search import Budget
from pipeline.search import sampler as tune_sampler
from pipeline.search.algorithms import in_optuna, suggested
from pipeline.search.records import FINISHED, STOPPED, TrialRecord
from pipeline.search.sampler import _feasible, tune
from pipeline.search.sampler_trial import SamplerSetup, measured, trial
from pipeline.search.sampler_verdict import CHOICES, Baseline, Candidate, choose
from tests.search.searched import BOUNDS, Mixture, made


@pytest.fixture
def setup() -> SamplerSetup:
    return made()


def start(setup: SamplerSetup) -> dict[str, Any]:
    """The analytic choice, four steps on each of the ten levels."""
    return setup.proposals().points()[0]


def fids(results: Iterator[dict[str, float]]) -> list[float]:
    return [result["fid"] for result in results]


def test_a_sane_step_beats_one_that_hardly_moves_and_one_that_diverges(setup: SamplerSetup) -> None:
    sane = fids(trial(start(setup), setup))
    timid = fids(trial({**start(setup), "step_size_ratio": 0.005}, setup))
    assert sane[-1] < timid[-1] / 3
    with pytest.raises(UserError, match="step_size"):
        list(trial({**start(setup), "step_size_ratio": 1e6}, setup))


def test_a_promoted_trial_adds_samples_to_those_it_has(setup: SamplerSetup) -> None:
    calls: list[int] = []

    def counting(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        calls.append(len(x))
        return Mixture()(x, sigma)

    grown = list(trial(start(setup), replace(setup, network=counting)))
    assert set(calls) == {60} and len(calls) == 2 * 41, "the second rung draws the 60 missing samples only"
    assert [result["samples"] for result in grown] == [60, 120]
    at_once = list(trial(start(setup), replace(setup, budget=replace(setup.budget, rungs=(120,)))))
    assert grown[-1]["fid"] == pytest.approx(at_once[0]["fid"], rel=1e-3), "and judges all of them"


def test_a_trial_is_judged_without_the_last_denoising_too(setup: SamplerSetup) -> None:
    """What the last rung says is the FID of all raw samples; of few levels, noise sigma_L is still seen."""
    coarse = Sampler.analytic(Ladder(1.5, 0.3, 4), 2)
    *_, last = measured(coarse, setup, setup.network, 9)
    drawn = draw(setup.network, coarse, seed=9, indices=range(120), shape=setup.shape)
    raw, fid = (
        distance(moments(setup.features.features(images)), setup.reference) for images in (drawn.raw, drawn.denoised)
    )
    assert last["fid_raw"] == pytest.approx(raw, rel=1e-3) and last["fid"] == pytest.approx(fid, rel=1e-3)
    assert raw > 1.5 * fid and last["nfe"] == drawn.nfe["raw"] + 1


def test_the_objective_is_a_function_of_its_seed(setup: SamplerSetup) -> None:
    other = replace(setup, budget=replace(setup.budget, seed=6))
    assert fids(trial(start(setup), setup)) == fids(trial(start(setup), setup))
    assert fids(trial(start(setup), setup)) != fids(trial(start(setup), other))


def again(setup: SamplerSetup, sampler: Sampler, network: Any, seed: int) -> list[float]:
    return fids(measured(sampler, setup, network, setup.budget.seed + seed))


def search_here(
    trial: Any, space: Any, *, budget: Budget, points: Any, shared: Any, on_trial: Any, **_: Any
) -> list[TrialRecord]:
    """`search` by random proposals in this process: the last trial alone is stopped, at its first rung."""
    study = create_study(sampler=RandomSampler(seed=budget.seed))
    records = []
    for number in range(1, budget.num_trials + 1):
        study.enqueue_trial(in_optuna(space, points[number - 1]) if number <= len(points) else {})
        drawn = study.ask()
        settings = suggested(space, drawn)
        last = number == budget.num_trials
        rungs = tuple(islice(trial(settings, **shared), 1 if last else None))
        records.append(TrialRecord(number, settings, rungs, STOPPED if last else FINISHED))
        on_trial(records[-1])
    return records


def test_a_search_of_two_budgets_keeps_to_them_and_its_choices_hold(
    setup: SamplerSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The choices hold by their own files: front, rules, and FIDs drawn again on seeds no trial used."""
    slow = Sampler.analytic(Ladder(1.5, 0.02, 20), 1)
    baseline = Baseline("slow", Mixture(), slow)
    told: list[TrialRecord] = []
    monkeypatch.setattr(tune_sampler, "search", search_here)
    budgets, resources = (5, 41), {"cpu": 1}
    found = tune(
        setup, budgets=budgets, bounds=BOUNDS, resources=resources, repeats=2, baseline=baseline,
        on_trial=told.append,
    )  # fmt: skip
    assert [record.trial for record in found.records] == list(range(1, 17)) and len(told) == 16
    assert sorted(told, key=lambda record: record.trial) == found.records
    for budget, some in zip(budgets, (found.records[:8], found.records[8:]), strict=True):
        assert all(record.metrics["nfe"] <= budget for record in some if record.rungs)
        assert some[0].settings["kind"] == "langevin" and some[0].status == FINISHED
    assert {c.record.trial for c in found.chosen.candidates} == set(range(1, 17)) - {8, 16}, "stopped ones"
    lines, chosen = found.chosen.lines, found.chosen.by_choice
    assert lines["analytic"].trial == 9 and lines["analytic"].fid_again == pytest.approx(
        np.exp(np.mean([np.log(again(setup, Sampler.analytic(setup.trained, 4), Mixture(), n)[-1]) for n in (1, 2)]))
    )
    assert lines["lowest_fid"].values["fid"] == min(c.point.fid for c in found.chosen.candidates)
    assert lines["fewest_nfe"].reaches_baseline and lines["fewest_nfe"].fid_again <= lines["baseline"].fid_again
    cheaper = [c for c in found.chosen.front if c.point.nfe < chosen["fewest_nfe"].point.nfe]
    target = lines["baseline"].fid_again
    for candidate in cheaper:
        drawn = [again(setup, candidate.sampler, Mixture(), n)[-1] for n in (1, 2)]
        assert candidate.point.fid > target or np.exp(np.mean(np.log(drawn))) > target
    assert set(found.chosen.spreads) == {60, 120}

    found.write(tmp_path)
    trials, rungs, repeats, pareto = (
        read_rows(tmp_path / f"{name}.csv") for name in ("trials", "rungs", "repeats", "pareto")
    )
    assert len(trials) == 16 and len(rungs) == sum(len(record.rungs) for record in found.records)
    assert all(not row["rho"] for row in trials if row["kind"] == "langevin"), "unused: not reported"
    assert {(r["seed"], r["samples"]) for r in repeats} == {(s, n) for s in "12" for n in ("60", "120")}
    assert {r["trial"] for r in repeats} >= {"slow", "9", *(str(c.record.trial) for c in chosen.values())}
    assert [float(r["fid"]) for r in pareto if r["on_front"] == "1"] == [c.point.fid for c in found.chosen.front]
    assert {name for row in pareto for name in row["chosen"].split()} == {"analytic", *chosen}
    best = read_yaml(tmp_path / "best.yaml")
    assert {name: Sampler.read(best[name]["sampler"]) for name in CHOICES} == {
        name: candidate.sampler for name, candidate in chosen.items()
    }
    assert best["verdict"]["tuned_against_analytic"] in (
        "better",
        "tie",
        "worse",
    )
    assert parallel(trials, SAMPLER_AXES) and front(*read_judged(tmp_path))


def test_the_winner_that_is_the_analytic_choice_is_a_tie_and_nothing_reaches_a_perfect_sampler() -> None:
    def candidate(trial: int, nfe: int, fid: float) -> Candidate:
        metrics = {"nfe": float(nfe), "fid": fid, "samples": 60.0}
        record = TrialRecord(trial, {"kind": "heun"}, (metrics,), FINISHED)
        return Candidate(record, Sampler("heun", Ladder(1.0, 0.1, trial + 1), {}))

    analytic, cheap = candidate(1, 100, 5.0), candidate(2, 5, 9.0)
    fid = {2: 5.5, 3: 9.5, 99: 1.0}

    def measure(jobs: Any) -> Any:
        for network, sampler, seed in jobs:
            one = fid[99 if network else sampler.ladder.num_levels] * (1 + seed / 100)
            yield [{"fid": one, "fid_raw": 2 * one, "samples": 60, "nfe": 1}]

    perfect = Baseline("paper", Mixture(), analytic.sampler)
    chosen = choose([analytic, cheap], analytic, perfect, measure, 3)
    assert chosen.by_choice["lowest_fid"] is analytic and chosen.verdict.tuned_against_analytic == "tie"
    assert chosen.by_choice["fewest_nfe"] is analytic
    assert not chosen.lines["fewest_nfe"].reaches_baseline
    assert chosen.verdict.denoising_against_none == "better"
    assert chosen.verdict.denoising_fid_ratio == pytest.approx(0.5)


def test_a_winner_by_luck_does_not_reach_the_target() -> None:
    """Its trial's FID was below the published one's, its FIDs on other seeds are not."""

    def candidate(trial: int, nfe: int, fid: float) -> Candidate:
        record = TrialRecord(trial, {"kind": "heun"}, ({"nfe": nfe, "fid": fid, "samples": 60.0},), FINISHED)
        return Candidate(record, Sampler("heun", Ladder(1.0, 0.1, trial + 1), {}))

    lucky, honest, analytic = candidate(2, 5, 4.0), candidate(3, 20, 3.9), candidate(1, 100, 3.5)
    fid = {3: 9.0, 4: 4.2, 2: 3.6, 99: 5.0}

    def measure(jobs: Any) -> Any:
        found = [fid[99 if network else sampler.ladder.num_levels] for network, sampler, _ in jobs]
        return [[{"fid": one, "fid_raw": one, "samples": 60, "nfe": 1}] for one in found]

    chosen = choose([lucky, honest, analytic], analytic, Baseline("p", Mixture(), lucky.sampler), measure, 2)
    assert chosen.by_choice["fewest_nfe"] is honest
    assert chosen.verdict.denoising_against_none == "tie", "both are the same"


def test_a_conditional_network_has_a_budget_for_all_its_levels(setup: SamplerSetup) -> None:
    network = make_network("ncsn", channels=1, image_size=8, width=4, sigmas=setup.trained.sigmas())
    fixed = replace(setup, network=network)
    assert _feasible(fixed, [5, 41]) == [41] and _feasible(setup, [5, 41]) == [5, 41]
    with pytest.raises(UserError, match="below the 11 evaluations"):
        _feasible(fixed, [3, 9])
