"""The section `sampler`: by variant, how its samples are drawn."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.params.section import Count, Fraction, Levels, Positive, Section, Seed

Rho = Annotated[float, Field(ge=1, allow_inf_nan=False)] | None
"""Karras's exponent; null: geometric levels."""


class FixedSampler(Section):
    """Annealed Langevin dynamics with a step that is given, of the convention 'released' if none is."""

    rule: Literal["fixed"]
    step_size: Positive
    steps_per_level: Count
    convention: Literal["paper", "released"] | None = None


class AnalyticSampler(Section):
    """Technique 4 of NCSNv2: the step from the ladder and the steps per level."""

    rule: Literal["analytic"]
    steps_per_level: Count


class TunedSampler(Section):
    """What `tune_sampler` finds: the lowest FID; the fewest evaluations at the baseline's FID; the knee."""

    rule: Literal["tuned", "fewest", "knee"]


class ConsistentSampler(Section):
    """Consistent annealed sampling (arXiv 2009.05475)."""

    rule: Literal["consistent"]
    num_levels: Levels
    rho: Rho
    step_size: Positive


class PredictorCorrectorSampler(Section):
    """Predictor-corrector sampling (arXiv 2011.13456)."""

    rule: Literal["predictor_corrector"]
    num_levels: Levels
    rho: Rho
    predictor: Literal["reverse_diffusion", "ancestral", "none"]
    corrector: Literal["langevin", "annealed"]
    corrector_steps: Annotated[int, Field(ge=0)]
    snr: Fraction

    @model_validator(mode="after")
    def moving(self) -> Self:
        if self.predictor == "none" and self.corrector_steps == 0:
            raise ValueError("corrector_steps (0) must be at least 1 where predictor is none")
        if self.corrector_steps and self.snr == 0:
            raise ValueError(
                f"snr (0) must be above 0 for corrector_steps ({self.corrector_steps}); the paper's CIFAR-10 "
                "has 0.16"
            )
        return self


class ODESampler(Section):
    """The probability-flow ODE (arXiv 2011.13456, 2206.00364, 2211.01095)."""

    rule: Literal["euler", "heun", "dpm_solver"]
    num_levels: Levels
    rho: Rho


class StochasticHeunSampler(Section):
    """Heun with churn (arXiv 2206.00364, algorithm 2); churn_min and churn_max in units of pixels."""

    rule: Literal["stochastic_heun"]
    num_levels: Levels
    rho: Rho
    churn: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    churn_min: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    churn_max: Positive
    churn_noise: Positive

    @model_validator(mode="after")
    def ordered(self) -> Self:
        if self.churn_min > self.churn_max:
            raise ValueError(f"churn_min ({self.churn_min}) must not be above churn_max ({self.churn_max})")
        return self


Sampler = Annotated[
    FixedSampler
    | AnalyticSampler
    | TunedSampler
    | ConsistentSampler
    | PredictorCorrectorSampler
    | ODESampler
    | StochasticHeunSampler,
    Field(discriminator="rule"),
]


class LangevinOptions(Section):
    """Annealed Langevin dynamics by technique 4."""

    steps_per_level: Count


class CorrectorOptions(Section):
    """Of predictor-corrector sampling."""

    predictor: Literal["reverse_diffusion", "ancestral"]
    corrector: Literal["langevin", "annealed"]
    corrector_steps: Count
    snr: Annotated[float, Field(gt=0, lt=1)]


class ChurnOptions(Section):
    """Of Heun with churn; churn_min and churn_max in units of pixels."""

    churn: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    churn_min: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    churn_max: Positive
    churn_noise: Positive


class Frontier(Section):
    """FID against network evaluations, for every kind of sampler on the network of one variant."""

    variant: str
    nfe: Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=1)]
    num_samples: Annotated[int, Field(ge=2)]
    shard_size: Count
    rho: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    langevin: LangevinOptions
    predictor_corrector: CorrectorOptions
    stochastic_heun: ChurnOptions
    seed: Seed
