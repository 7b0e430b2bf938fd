"""The section `sampler`: by row of the table, how its samples are drawn."""

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from pipeline.params.noise import kind_or_from
from pipeline.params.section import Count, Fraction, Levels, Positive, Section

Rho = Annotated[float, Field(ge=1, allow_inf_nan=False)] | None
"""Karras's exponent; null: geometric levels."""


class LangevinSampler(Section):
    """Annealed Langevin dynamics; step_size `analytic`: by technique 4 of NCSNv2."""

    kind: Literal["langevin"]
    step_size: Positive | Literal["analytic"]
    steps_per_level: Count
    convention: Literal["paper", "released"] | None = None


class SearchedSampler(Section):
    """What `tune_sampler` found: lowest FID, fewest evaluations at the baseline's FID, or the knee."""

    from_: Annotated[Literal["tune_sampler"], Field(alias="from")]
    choose: Literal["lowest_fid", "fewest_nfe", "knee"]


class ConsistentSampler(Section):
    """Consistent annealed sampling (arXiv 2009.05475)."""

    kind: Literal["consistent"]
    num_levels: Levels
    rho: Rho
    step_size: Positive


class PredictorCorrectorSampler(Section):
    """Predictor-corrector sampling (arXiv 2011.13456)."""

    kind: Literal["predictor_corrector"]
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

    kind: Literal["euler", "heun", "dpm_solver"]
    num_levels: Levels
    rho: Rho


class StochasticHeunSampler(Section):
    """Heun with churn (arXiv 2206.00364, algorithm 2); churn_min and churn_max in units of pixels."""

    kind: Literal["stochastic_heun"]
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


Drawn = (
    Annotated[LangevinSampler, Tag("langevin")]
    | Annotated[ConsistentSampler, Tag("consistent")]
    | Annotated[PredictorCorrectorSampler, Tag("predictor_corrector")]
    | Annotated[ODESampler, Tag("euler")]
    | Annotated[ODESampler, Tag("heun")]
    | Annotated[ODESampler, Tag("dpm_solver")]
    | Annotated[StochasticHeunSampler, Tag("stochastic_heun")]
)
GivenSampler = Annotated[Drawn, Discriminator(kind_or_from)]
"""By kind."""
Sampler = Annotated[Drawn | Annotated[SearchedSampler, Tag("from")], Discriminator(kind_or_from)]
"""By kind, or from a search."""
