"""A sampler by name and numbers is the sampler called by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.kinds import kinds, make
from pipeline.ncsn.nfe import CountEvaluations
from pipeline.ncsn.noise import geometric_sigmas, karras_sigmas, step_size
from pipeline.ncsn.prior import Law
from pipeline.ncsn.rng import SampleNoise
from pipeline.ncsn.sampler import Ladder, Sampler
from pipeline.ncsn.samplers.heun import Heun
from pipeline.ncsn.samplers.langevin import Convention, Langevin
from tests.ncsn.samplers.functions import (
    annealed_langevin,
    consistent,
    dpm_solver,
    predictor_corrector,
    probability_flow,
)

LADDER = Ladder(2.0, 0.05, 6)
PC = {"predictor": "ancestral", "corrector_steps": 1, "snr": 0.2}
CHURN = {"churn": 1.0, "churn_min": 0.1, "churn_max": 1.0, "churn_noise": 1.01}
OPTIONS: dict[str, dict[str, Any]] = {
    "langevin": {"step_size": 1e-3, "steps_per_level": 2},
    "consistent": {"step_size": 2e-3},
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
    assert set(kinds("samplers")) == set(OPTIONS)


@pytest.mark.parametrize("kind", kinds("samplers"))
def test_settings_make_the_sampler_that_a_call_by_hand_makes(kind: str) -> None:
    sampler = Sampler(kind, LADDER, OPTIONS[kind])
    counted = CountEvaluations(score)
    made = sampler.sample(counted, rng(), denoise=True)
    torch.testing.assert_close(made, by_hand(kind), rtol=1e-6, atol=1e-6)
    assert counted.nfe == NFE[kind]


@pytest.mark.parametrize("kind", kinds("samplers"))
def test_there_are_samples_for_each_level_and_settings_survive_a_file(kind: str) -> None:
    sampler = Sampler(kind, LADDER, OPTIONS[kind])
    levels = list(sampler.levels(score, rng()))
    assert len(levels) == LADDER.num_levels
    assert torch.equal(levels[-1], sampler.sample(score, rng(), denoise=False))
    assert Sampler.read(sampler.plain()) == sampler


@pytest.mark.parametrize("convention", ["paper", "released"])
def test_a_convention_is_kept_only_where_it_is_given(convention: Convention) -> None:
    options = {"step_size": 1e-3, "steps_per_level": 2}
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
    with pytest.raises(UserError, match=r"'huen' is none of the samplers; did you mean heun\?"):
        Sampler.read({"kind": "huen", **LADDER.plain()})
    with pytest.raises(UserError, match=r"not those of heun: .*'churn'"):
        Sampler.read({"kind": "heun", "churn": 1.0, **LADDER.plain()})


def test_the_analytic_step_is_technique_4_in_either_convention() -> None:
    step = step_size(LADDER.sigmas(), 3)
    for convention, factor in (("released", 1), ("paper", 2)):
        settled = Langevin("analytic", 3, convention).on(LADDER)
        assert settled.options["step_size"] == factor * step and settled.ladder == LADDER
    assert Sampler.analytic(LADDER, 3, ratio=0.5).options["step_size"] == 0.5 * step


def test_levels_of_its_own_lie_between_the_ends_of_the_training() -> None:
    sampler = Heun(num_levels=18, rho=7.0).on(LADDER)
    assert sampler == Sampler("heun", Ladder(2.0, 0.05, 18, 7.0), {})
    assert sampler.plain() == {**{"kind": "heun", "sigma_max": 2.0, "sigma_min": 0.05, "num_levels": 18, "rho": 7.0}}
    assert sampler.settings() == Heun(num_levels=18, rho=7.0)


@pytest.mark.parametrize("kind", sorted(set(OPTIONS) - {"langevin"}))
def test_levels_of_its_own_begin_and_end_where_they_are_given(kind: str) -> None:
    settings = make("samplers", {"kind": kind, "num_levels": 4, "sigma_max": 0.9, "sigma_min": 0.1, **OPTIONS[kind]})
    sampler = settings.on(LADDER)
    assert sampler.ladder == Ladder(0.9, 0.1, 4)
    assert sampler == make("samplers", {"kind": kind, "num_levels": 4, **OPTIONS[kind]}).on(Ladder(0.9, 0.1, 6))
    assert Sampler.read(sampler.plain()) == sampler


@pytest.mark.parametrize("kind", OPTIONS)
def test_any_kind_begins_at_the_data_where_it_is_asked_to(kind: str) -> None:
    own = {} if kind == "langevin" else {"num_levels": 4}
    sampler = make("samplers", {"kind": kind, "start": "data", **own, **OPTIONS[kind]}).on(LADDER)
    assert sampler.start == "data"
    law = Law.of(np.random.default_rng(0).integers(0, 256, (50, 1, 2, 2), dtype=np.uint8))
    seen: list[Tensor] = []

    def watched(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append(x)
        return score(x, sigma)

    sampler.sample(watched, rng(), denoise=False, law=law)
    assert torch.equal(seen[0], law.draw(rng(), 2.0))


def test_levels_outside_the_training_are_refused() -> None:
    with pytest.raises(UserError, match=r"from sigma 2.0 to 0.01 leave the range of the training, 2.0 to 0.05"):
        Heun(num_levels=4, sigma_min=0.01).on(LADDER)
