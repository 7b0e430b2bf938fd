"""A sampler by name and numbers is the sampler called by hand."""

from typing import Any

import pytest
import torch
from pipeline.ncsn.samplers.ode import probability_flow
from pipeline.ncsn.samplers.settings import KINDS, Ladder, Sampler
from torch import Tensor

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.nfe import CountEvaluations
from pipeline.ncsn.noise import geometric_sigmas, karras_sigmas
from pipeline.ncsn.rng import SampleNoise
from pipeline.ncsn.samplers.consistent import consistent
from pipeline.ncsn.samplers.dpm_solver import dpm_solver
from pipeline.ncsn.samplers.langevin import Convention, annealed_langevin
from pipeline.ncsn.samplers.predictor_corrector import predictor_corrector

LADDER = Ladder(2.0, 0.05, 6)
PC = {"predictor": "ancestral", "corrector_steps": 1, "snr": 0.2}
CHURN = {"churn": 1.0, "churn_min": 0.1, "churn_max": 1.0, "churn_noise": 1.01}
OPTIONS: dict[str, dict[str, Any]] = {
    "langevin": {"step_lr": 1e-3, "steps_per_level": 2},
    "consistent": {"step_lr": 2e-3},
    "predictor_corrector": PC,
    "euler": {},
    "heun": {},
    "stochastic_heun": CHURN,
    "dpm_solver": {},
}
NFE = {
    "langevin": 13,
    "consistent": 7,
    "predictor_corrector": 12,
    "euler": 6,
    "heun": 11,
    "stochastic_heun": 11,
    "dpm_solver": 6,
}


def score(x: Tensor, sigma: Tensor) -> Tensor:
    return (0.5 - x) / (0.04 + sigma**2)


def rng() -> SampleNoise:
    return SampleNoise(1, range(5), (1, 2, 2))


def by_hand(kind: str) -> Tensor:
    sigmas, options = LADDER.sigmas(), OPTIONS[kind]
    noise, at_half = rng(), {"denoise": True}
    if kind == "langevin":
        return annealed_langevin(score, sigmas, noise, denoise=True, **options)
    start = 0.5 + sigmas[0] * noise.normal()
    if kind == "consistent":
        return consistent(score, sigmas, noise, start=start, **options, **at_half)
    if kind == "predictor_corrector":
        return predictor_corrector(score, sigmas, noise, start=start, **options, **at_half)
    if kind == "dpm_solver":
        return dpm_solver(score, sigmas, noise, start=start, **at_half)
    method = "euler" if kind == "euler" else "heun"
    return probability_flow(score, sigmas, noise, method=method, start=start, **options, **at_half)


def test_every_kind_is_tried_here() -> None:
    assert set(KINDS) == set(OPTIONS)


@pytest.mark.parametrize("kind", KINDS)
def test_settings_make_the_sampler_that_a_call_by_hand_makes(kind: str) -> None:
    sampler = Sampler(kind, LADDER, OPTIONS[kind])
    counted = CountEvaluations(score)
    made = sampler.sample(counted, rng(), denoise=True)
    torch.testing.assert_close(made, by_hand(kind), rtol=1e-6, atol=1e-6)
    assert counted.nfe == NFE[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_there_are_samples_for_each_level_and_settings_survive_a_file(kind: str) -> None:
    sampler = Sampler(kind, LADDER, OPTIONS[kind])
    levels = list(sampler.levels(score, rng()))
    assert len(levels) == LADDER.num_levels
    assert torch.equal(levels[-1], sampler.sample(score, rng(), denoise=False))
    assert Sampler.read({"rule": "fixed", **sampler.plain()}) == sampler


@pytest.mark.parametrize("convention", ["paper", "released"])
def test_a_convention_is_kept_only_where_it_is_given(convention: Convention) -> None:
    options = {"step_lr": 1e-3, "steps_per_level": 2}
    assert Sampler.langevin(LADDER, **options).options == options
    sampler = Sampler.langevin(LADDER, **options, convention=convention)
    assert sampler.options == {**options, "convention": convention}
    assert Sampler.read(sampler.plain()) == sampler
    by_default = Sampler.langevin(LADDER, **options).sample(score, rng(), denoise=True)
    same = torch.equal(sampler.sample(score, rng(), denoise=True), by_default)
    assert same == (convention == "released")


def test_a_ladder_is_geometric_or_karras() -> None:
    assert torch.equal(LADDER.sigmas(), geometric_sigmas(2.0, 0.05, 6))
    assert torch.equal(Ladder(2.0, 0.05, 6, 7.0).sigmas(), karras_sigmas(2.0, 0.05, 6, 7.0))
    assert Ladder.read({"sigma_max": 2.0, "sigma_min": 0.05, "num_levels": 6}) == LADDER


def test_what_is_missing_or_unknown_is_named() -> None:
    with pytest.raises(UserError, match="'num_levels'"):
        Ladder.read({"sigma_max": 2.0, "sigma_min": 0.05})
    with pytest.raises(UserError, match="the sampler 'huen' is not one of langevin"):
        Sampler.read({"kind": "huen", **LADDER.plain()})
