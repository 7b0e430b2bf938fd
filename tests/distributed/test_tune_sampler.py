"""Laws of the sampler search, on the exact score of a mixture of images: no network, no training."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from pipeline.distributed.search import Budget
from pipeline.distributed.trials import FAILED, FINISHED
from pipeline.distributed.tune_sampler import Setup, settled, space, trial, tune
from pipeline.errors import UserError
from pipeline.metrics.space.fid import moments
from pipeline.ncsn.mixtures import GaussianMixture
from pipeline.ncsn.networks import make_network
from pipeline.samplers.settings import Ladder, Sampler

SHAPE = (1, 2, 2)
BOUNDS = {
    "step_lr": [0.05, 1e4],
    "steps_per_level": [1, 4],
    "sigma_max": [0.2, 1.0],
    "sigma_min": [1.0, 2.0],
    "num_levels": [0.5, 1.5],
}


@dataclass(frozen=True)
class Pixels:
    """Pixels as features, in the place of a classifier."""

    def features(self, images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype(np.float32) / 255


@dataclass(frozen=True)
class Mixture:
    """Two bumps of images, as a score and as data."""

    def exact(self) -> GaussianMixture:
        means = torch.tensor([[0.2, 0.3, 0.2, 0.8], [0.8, 0.6, 0.7, 0.2]])
        return GaussianMixture([0.5, 0.5], means, 0.05)

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return self.exact().score(x.flatten(1), sigma).view_as(x)

    def images(self, n: int) -> np.ndarray:
        x = self.exact().sample(n, torch.Generator().manual_seed(0)).clamp(0, 1)
        return (x * 255).to(torch.uint8).numpy().reshape(n, *SHAPE)


@pytest.fixture
def setup() -> Setup:
    features = Pixels()
    return Setup(
        network=Mixture(),
        trained=Ladder(1.5, 0.02, 10),
        shape=SHAPE,
        classifier=features,  # type: ignore[arg-type]
        reference=moments(features.features(Mixture().images(2000))),
        budget=Budget(num_trials=8, rungs=(60, 120), reduction_factor=2, max_concurrent=2, seed=5),
        max_nfe=41,
    )


def fids(results: Iterator[dict[str, float]]) -> list[float]:
    return [result["fid"] for result in results]


def test_a_sane_step_beats_one_that_hardly_moves_and_one_that_diverges(setup: Setup) -> None:
    sane = fids(trial(setup.start(), setup))
    timid = fids(trial({**setup.start(), "step_lr_ratio": 0.005}, setup))
    assert sane[-1] < timid[-1] / 3
    with pytest.raises(UserError, match="step_lr"):
        list(trial({**setup.start(), "step_lr_ratio": 1e6}, setup))


def test_a_promoted_trial_adds_samples_to_those_it_has(setup: Setup) -> None:
    calls: list[int] = []

    def counting(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        calls.append(len(x))
        return Mixture()(x, sigma)

    grown = list(trial(setup.start(), replace(setup, network=counting)))
    assert set(calls) == {60} and len(calls) == 2 * 41, "the second rung draws the 60 missing samples only"
    assert [result["samples"] for result in grown] == [60, 120]
    at_once = list(trial(setup.start(), replace(setup, budget=replace(setup.budget, rungs=(120,)))))
    assert grown[-1]["fid"] == pytest.approx(at_once[0]["fid"], rel=1e-3), "and judges all of them"


def test_the_objective_is_a_function_of_its_seed(setup: Setup) -> None:
    other = replace(setup, budget=replace(setup.budget, seed=6))
    assert fids(trial(setup.start(), setup)) == fids(trial(setup.start(), setup))
    assert fids(trial(setup.start(), setup)) != fids(trial(setup.start(), other))


@pytest.mark.parametrize("levels", [2, 10, 15, 300])
@pytest.mark.parametrize("steps", [1, 4, 60])
def test_no_proposal_exceeds_the_budget(setup: Setup, levels: int, steps: int) -> None:
    used = setup.sampler({**setup.start(), "num_levels": levels, "steps_per_level": steps})
    nfe = used.ladder.num_levels * used.options["steps_per_level"] + 1
    assert used.ladder.num_levels >= 2 and nfe <= setup.max_nfe
    counted = next(trial(used.plain() | {"step_lr_ratio": 1.0}, setup))
    assert counted["nfe"] == nfe


@pytest.mark.usefixtures("local_ray")
def test_the_search_is_never_worse_than_the_analytic_choice_and_survives_divergence(setup: Setup) -> None:
    found = tune(setup, bounds=BOUNDS, resources={"cpu": 1})
    first = found.records[0]
    assert first.settings == setup.start() and first.status == FINISHED
    assert found.compared["analytic"]["step_lr"] == Sampler.analytic(setup.trained, 4).options["step_lr"]
    assert found.compared["tuned"]["fid"] <= found.compared["analytic"]["fid"]
    assert found.winner.ladder.num_levels * found.winner.options["steps_per_level"] + 1 <= 41
    failed = [record for record in found.records if record.status == FAILED]
    assert failed and all("diverged" in record.reason for record in failed), "bounds up to 10,000 times"


def test_a_conditional_network_keeps_its_ladder(setup: Setup) -> None:
    sigmas = setup.trained.sigmas()
    network = make_network("ncsn", channels=1, image_size=8, width=4, sigmas=sigmas)
    fixed = space(replace(setup, network=network), BOUNDS)
    assert (fixed["sigma_max"].lower, fixed["sigma_max"].upper) == (1.5, 1.5)
    assert (fixed["num_levels"].lower, fixed["num_levels"].upper) == (10, 10)
    assert fixed["step_lr_ratio"].upper == 1e4


def test_bounds_beyond_the_trained_range_are_refused(setup: Setup) -> None:
    with pytest.raises(UserError, match="not trained"):
        space(setup, {**BOUNDS, "sigma_max": [0.2, 1.5]})
    with pytest.raises(UserError, match="sigma_min"):
        space(setup, {**BOUNDS, "sigma_min": [1.0, 50.0]})


def test_every_variant_gets_a_sampler_on_its_own_ladder() -> None:
    ladders = {"a": Ladder(1.0, 0.01, 10), "b": Ladder(50.0, 0.01, 232), "c": Ladder(2.0, 0.1, 5)}
    ladders["d"] = ladders["b"]
    rules = {
        "a": {"rule": "fixed", "step_lr": 2e-5, "steps_per_level": 100},
        "b": {"rule": "analytic", "steps_per_level": 5},
        "c": {"rule": "tuned"},
        "d": {"rule": "heun", "num_levels": 18, "rho": 7.0},
    }
    tuned = Sampler.langevin(Ladder(1.5, 0.1, 4), step_lr=1e-3, steps_per_level=2)
    made = settled(rules, ladders, {"c": tuned})
    assert made["a"] == Sampler.langevin(ladders["a"], step_lr=2e-5, steps_per_level=100)
    assert made["b"].options["step_lr"] == pytest.approx(6.18e-6, rel=0.01)
    assert made["b"].ladder == ladders["b"]
    assert made["c"] == tuned
    assert made["d"] == Sampler("heun", Ladder(50.0, 0.01, 18, 7.0), {})
    with pytest.raises(UserError, match=r"sampler\.c\.rule"):
        settled(rules, ladders, {"b": tuned})
