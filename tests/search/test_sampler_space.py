"""Laws of what the sampler search proposes: costs are counted, ladders stay in the trained range."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from optuna import create_study
from optuna.samplers import RandomSampler

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.kinds import find, kinds
from pipeline.ncsn.nfe import CountEvaluations, cost
from pipeline.ncsn.prior import AT_MOST, Law
from pipeline.ncsn.rng import SampleNoise
from pipeline.ncsn.sampler import Ladder, Sampler, last
from pipeline.search import Categorical, Range
from pipeline.search.algorithms import suggested
from pipeline.search.sampler_space import COMMON, Proposals
from pipeline.toy.mixture import GaussianMixture

KINDS = kinds("samplers")
TRAINED = Ladder(1.5, 0.02, 10)
BOUNDS: dict[str, Any] = {
    "budget_share": [0.05, 1.0],
    "step_size_ratio": [0.1, 10.0],
    "steps_per_level": [1, 12],
    "sigma_max_ratio": [0.3, 1.0],
    "sigma_min_ratio": [1.0, 6.0],
    "snr": [0.05, 0.5],
    "churn": [1.0, 80.0],
    "rho": [1.0, 9.0],
}


def proposed(proposals: Proposals, kind: str, count: int) -> list[dict[str, Any]]:
    """Random proposals of one kind."""
    space = proposals.space(BOUNDS) | {"kind": Categorical((kind,))}
    study = create_study(sampler=RandomSampler(seed=3))
    trials = [study.ask() for _ in range(count)]
    return [suggested(space, trial) for trial in trials]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("budget", [3, 5, 22, 106])
def test_no_proposal_of_any_kind_costs_more_than_the_budget_or_leaves_the_trained_range(kind: str, budget: int) -> None:
    proposals = Proposals(TRAINED, budget, KINDS)
    law = Law(torch.full((1, 1, 1), 0.5), torch.eye(1))
    for settings in proposed(proposals, kind, 5):
        sampler = proposals.sampler(settings)
        counted = CountEvaluations(lambda x, sigma: (0.5 - x) / (1 + sigma**2))
        sampler.sample(counted, SampleNoise(0, range(2), (1, 1, 1)), denoise=True, law=law)
        aim = max(3, round(settings["budget_share"] * budget))
        assert counted.nfe == cost(sampler) <= aim <= budget, settings
        longer = replace(sampler, ladder=replace(sampler.ladder, num_levels=sampler.ladder.num_levels + 1))
        assert sampler.kind == kind and cost(longer) > aim, "as many levels as there is room for"
        sigmas = sampler.ladder.sigmas()
        assert float(sigmas[0]) <= TRAINED.sigma_max * 1.0001 and float(sigmas[-1]) >= 0.02 * 0.9999


def test_a_proposal_has_what_its_kind_uses_and_nothing_else() -> None:
    proposals = Proposals(TRAINED, 30, KINDS)
    assert all(set(point) == {*COMMON, *find("samplers", point["kind"]).searched} for point in proposals.points())
    numbers = {
        "steps_per_level": 3,
        "budget_share": 1.0,
        "churn": 2.0,
        "step_size_ratio": 1.0,
        "snr": 0.1,
        "rho": 3.0,
    }
    for kind in KINDS:
        (one,) = proposed(proposals, kind, 1)
        assert set(one) == {*COMMON, *find("samplers", kind).searched}
        assert proposals.sampler(one) == proposals.sampler(numbers | one)
        for name in find("samplers", kind).searched:
            whole = one | {key: value for key, value in numbers.items() if key in one}
            other = 2 if name == "steps_per_level" else 1.01 * whole[name]
            assert proposals.sampler(whole) != proposals.sampler(whole | {name: other}), f"{kind}: {name}"


def test_the_first_point_is_technique_4_on_the_trained_ladder() -> None:
    proposals = Proposals(TRAINED, 106, ("dpm_solver", "langevin"))
    first, *others = proposals.points()
    assert proposals.sampler(first) == Sampler.analytic(TRAINED, 10)
    assert [proposals.sampler(point) for point in others] == [
        Sampler("dpm_solver", Ladder(1.5, 0.02, 35, 7.0), {}, start="data")
    ]
    assert others == [point for point in Proposals(TRAINED, 106, KINDS).points() if point in others]
    space = proposals.space({**BOUNDS, "budget_share": [0.5, 0.6], "rho": [1.0, 2.0]})
    for point in proposals.points():
        assert all(space[n].lower <= v <= space[n].upper for n, v in point.items() if n != "kind")


@pytest.mark.parametrize("max_nfe", [5, 41, 106])
def test_every_kind_that_is_searched_is_begun_with(max_nfe: int) -> None:
    proposals = Proposals(TRAINED, max_nfe, KINDS)
    points = proposals.points()
    assert sorted(point["kind"] for point in points) == sorted({"langevin", *KINDS})
    assert all(cost(proposals.sampler(point)) <= max_nfe for point in points[1:])
    (corrected,) = (p for p in points if p["kind"] == "predictor_corrector")
    if max_nfe > 5:
        assert proposals.sampler(corrected).options == {
            **{"predictor": "ancestral", "corrector": "annealed", "corrector_steps": 1, "snr": 0.16}
        }


def test_a_conditional_network_keeps_its_ladder_at_any_step() -> None:
    proposals = Proposals(TRAINED, 32, KINDS, conditional=True)
    assert proposals.space(BOUNDS)["kind"].values == ("langevin",)  # type: ignore[union-attr]
    for settings in [*proposals.points(), *proposed(proposals, "langevin", 10)]:
        sampler = proposals.sampler(settings)
        assert sampler.ladder == TRAINED and cost(sampler) <= 32


def test_bounds_beyond_the_trained_range_are_refused() -> None:
    proposals = Proposals(TRAINED, 40, ("heun",))
    with pytest.raises(UserError, match="not trained"):
        proposals.space({**BOUNDS, "sigma_max_ratio": [0.2, 1.5]})


@pytest.mark.parametrize("trained", [Ladder(0.95, 0.073, 8), Ladder(0.5, 0.45, 4), Ladder(1.0, 0.01, 9)])
def test_on_a_ladder_so_short_that_the_bounds_meet_both_stop_about_its_middle(trained: Ladder) -> None:
    """The range is the outcome of a search of its own: bounds that meet must not end what trained for it."""
    space = Proposals(trained, 40, ("heun",)).space({**BOUNDS, "sigma_min_ratio": [1.0, 50.0]})
    low, high = space["sigma_min"], space["sigma_max"]
    assert isinstance(low, Range) and isinstance(high, Range)
    assert trained.sigma_min == low.lower < low.upper < high.lower < high.upper == trained.sigma_max


def test_the_start_has_the_datas_moments_and_the_noise_of_the_first_level() -> None:
    rng = np.random.default_rng(0)
    images = np.clip(rng.normal([60, 90, 120, 200], [40, 20, 10, 30], (1500, 4)), 0, 255)
    images[:, 1] = (images[:, 0] + images[:, 1]) / 2
    images = images.astype(np.uint8).reshape(-1, 1, 2, 2)
    x = images.reshape(-1, 4) / 255
    drawn = Law.of(images).draw(SampleNoise(1, range(8_000), (1, 2, 2)), 0.3).flatten(1).numpy()
    assert drawn.mean(0) == pytest.approx(x.mean(0), abs=0.015)
    assert np.cov(drawn.T) == pytest.approx(np.cov(x.T) + 0.09 * np.eye(4), abs=0.006)
    few, many = Law.of(images[:3]), Law.of(np.concatenate([images] * 2))
    assert len(few.root) == 3 and few.digest() != many.digest()
    assert many.digest() == Law.of(np.concatenate([images] * 2)[:AT_MOST]).digest(), "the first ones alone"


def test_on_a_short_range_the_ode_is_right_from_the_datas_moments_alone() -> None:
    """Gaussian data of mean 0.2: solved from sigma 0.3, a start at 1/2 leaves the samples off, not this."""
    exact = GaussianMixture([1.0], torch.tensor([[0.2, 0.2, 0.2, 0.2]]), 0.1)
    images = (exact.sample(2000, torch.Generator().manual_seed(0)).clamp(0, 1) * 255).to(torch.uint8).numpy()
    law = Law.of(images.reshape(-1, 1, 2, 2))

    def score(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return exact.score(x.flatten(1), sigma).view_as(x)

    def drawn(**start: Any) -> torch.Tensor:
        sampler = Sampler("heun", Ladder(0.3, 0.005, 20, 7.0), {}, **start)
        return last(sampler.levels(score, SampleNoise(2, range(4000), (1, 2, 2)), law))

    good, bad = drawn(start="data"), drawn()
    assert float(good.mean()) == pytest.approx(0.2, abs=0.005) and float(good.std()) == pytest.approx(0.1, abs=0.005)
    assert abs(float(bad.mean()) - 0.2) > 0.05


def test_a_sampler_that_starts_at_the_data_says_so_in_its_file_and_needs_them() -> None:
    sampler = Sampler("heun", Ladder(0.3, 0.005, 4, 7.0), {}, start="data")
    assert sampler.plain()["start"] == "data" and Sampler.read(sampler.plain()) == sampler
    assert "start" not in replace(sampler, start=None).plain()
    with pytest.raises(UserError, match="the data's law"):
        sampler.sample(lambda x, sigma: -x, SampleNoise(0, range(1), (1, 1, 1)), denoise=True)
