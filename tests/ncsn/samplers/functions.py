"""The samplers as functions of their settings, on any ladder, so that a test names only what it is about."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from pipeline.ncsn.rng import Noise
from pipeline.ncsn.sampler import SamplerSettings, sample
from pipeline.ncsn.samplers.consistent import Consistent
from pipeline.ncsn.samplers.dpm_solver import DPMSolver
from pipeline.ncsn.samplers.euler import Euler
from pipeline.ncsn.samplers.heun import Heun
from pipeline.ncsn.samplers.langevin import Langevin
from pipeline.ncsn.samplers.predictor_corrector import PredictorCorrector
from pipeline.ncsn.samplers.stochastic_heun import StochasticHeun
from pipeline.ncsn.score import Score

NUM_LEVELS = 2
"""Of no consequence here: the ladder is given."""


def annealed_langevin(score: Score, sigmas: Tensor, rng: Noise, *, denoise: bool, **given: Any) -> Tensor:
    start = given.pop("start", None)
    return sample(Langevin(**given), score, sigmas, rng, denoise=denoise, start=start)


def annealed_langevin_levels(score: Score, sigmas: Tensor, rng: Noise, **given: Any) -> Iterator[Tensor]:
    start = given.pop("start", None)
    return Langevin(**given).levels(score, sigmas, rng, start=start)


def consistent(score: Score, sigmas: Tensor, rng: Noise, *, denoise: bool, **given: Any) -> Tensor:
    start = _about_zero(sigmas, rng, given)
    return sample(Consistent(NUM_LEVELS, **given), score, sigmas, rng, denoise=denoise, start=start)


def consistent_levels(score: Score, sigmas: Tensor, rng: Noise, **given: Any) -> Iterator[Tensor]:
    start = _about_zero(sigmas, rng, given)
    return Consistent(NUM_LEVELS, **given).levels(score, sigmas, rng, start=start)


def predictor_corrector(score: Score, sigmas: Tensor, rng: Noise, *, denoise: bool, **given: Any) -> Tensor:
    settings, start = PredictorCorrector(NUM_LEVELS, **_own(given)), _about_zero(sigmas, rng, given)
    return sample(settings, score, sigmas, rng, denoise=denoise, start=start)


def predictor_corrector_levels(score: Score, sigmas: Tensor, rng: Noise, **given: Any) -> Iterator[Tensor]:
    settings, start = PredictorCorrector(NUM_LEVELS, **_own(given)), _about_zero(sigmas, rng, given)
    return settings.levels(score, sigmas, rng, start=start)


def probability_flow(score: Score, sigmas: Tensor, rng: Noise, *, denoise: bool, **given: Any) -> Tensor:
    start = given.pop("start", None)
    return sample(_ode(**given), score, sigmas, rng, denoise=denoise, start=start)


def probability_flow_levels(score: Score, sigmas: Tensor, rng: Noise, **given: Any) -> Iterator[Tensor]:
    start = given.pop("start", None)
    return _ode(**given).levels(score, sigmas, rng, start=start)


def dpm_solver(score: Score, sigmas: Tensor, rng: Noise, *, denoise: bool, **given: Any) -> Tensor:
    return sample(DPMSolver(NUM_LEVELS), score, sigmas, rng, denoise=denoise, **given)


def dpm_solver_levels(score: Score, sigmas: Tensor, rng: Noise, **given: Any) -> Iterator[Tensor]:
    return DPMSolver(NUM_LEVELS).levels(score, sigmas, rng, **given)


def _ode(method: str = "heun", **churn: Any) -> SamplerSettings:
    if churn:
        return StochasticHeun(NUM_LEVELS, **churn)
    return Euler(NUM_LEVELS) if method == "euler" else Heun(NUM_LEVELS)


def _own(given: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if key != "start"}


def _about_zero(sigmas: Tensor, rng: Noise, given: dict[str, Any]) -> Tensor:
    """The start of the papers whose pixels lie about 0, as the data of these tests do."""
    start = given.pop("start", None)
    return float(sigmas[0]) * rng.normal() if start is None else start
