"""The sections `tune_noise` and `tune_sampler`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.params.section import Count, Positive, Section, Seed

Bounds = Annotated[list[Positive], Field(min_length=2, max_length=2)]
Differences = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=2, max_length=2)]
Rungs = Annotated[list[Count], Field(min_length=1)]


class Search(Section):
    variant: str
    algorithm: Literal["tpe", "random"]
    num_trials: Count
    rungs: Rungs
    reduction_factor: Annotated[int, Field(ge=2)]
    max_nfe: Count
    max_concurrent: Count
    seed: Seed

    @model_validator(mode="after")
    def ascending(self) -> Self:
        if sorted(set(self.rungs)) != self.rungs:
            raise ValueError(f"rungs ({self.rungs}) must be strictly ascending")
        for key, value in self.kwargs().items():
            bounds = isinstance(value, list) and key not in ("rungs", "max_nfe", "kinds")
            if bounds and value[0] > value[1]:
                raise ValueError(f"{key} ({value}) must be [lower, upper]")
        return self


class Analytic(Section):
    """Where techniques 1 and 2 of NCSNv2 leave a choice."""

    sigma_min: Positive
    overlap: Annotated[float, Field(gt=0, lt=1)]


class TuneNoise(Search):
    analytic: Analytic
    batch_size: Count
    num_samples: Annotated[int, Field(ge=2)]
    sigma_max: Bounds
    sigma_min: Bounds
    num_levels: Bounds
    p_mean: Differences
    p_std: Bounds
    microshards: Count = 1
    repeats: Annotated[int, Field(ge=0)] = 0
    algorithm: Literal["tpe", "random", "pbt"]  # type: ignore[assignment]

    @model_validator(mode="after")
    def repeated(self) -> Self:
        if self.repeats == 1:
            raise ValueError("repeats (1) must be 0 or at least 2: a spread needs two seeds")
        if self.batch_size % self.microshards:
            raise ValueError(
                f"batch_size ({self.batch_size}) must be divisible by microshards ({self.microshards})"
            )
        if self.algorithm == "pbt" and (self.num_trials < 4 or len(self.rungs) < 2):
            raise ValueError(
                f"algorithm pbt needs 4 members, num_trials ({self.num_trials}), and 2 rungs ({self.rungs}): "
                "a quarter of them copies another one at each rung but the last"
            )
        return self


Kind = Literal[
    "langevin", "consistent", "predictor_corrector", "euler", "heun", "stochastic_heun", "dpm_solver"
]


class TuneSampler(Search):
    baseline: str
    max_nfe: Annotated[list[Annotated[int, Field(ge=3)]], Field(min_length=1)]  # type: ignore[assignment]
    repeats: Annotated[int, Field(ge=2)]
    kinds: Annotated[list[Kind], Field(min_length=1)]
    spent: Bounds
    step_size: Bounds
    steps_per_level: Annotated[list[Count], Field(min_length=2, max_length=2)]
    sigma_max: Bounds
    sigma_min: Bounds
    snr: Bounds
    churn: Bounds
    rho: Bounds

    @model_validator(mode="after")
    def within(self) -> Self:
        if self.rungs[0] < 2:
            raise ValueError(
                f"rungs ({self.rungs}) must begin with at least 2 samples: FID needs a covariance"
            )
        if sorted(set(self.max_nfe)) != self.max_nfe:
            raise ValueError(f"max_nfe ({self.max_nfe}) must be strictly ascending")
        if self.spent[1] > 1 or self.snr[1] >= 1 or self.rho[0] < 1:
            raise ValueError(
                f"spent ({self.spent}) must be at most 1, snr ({self.snr}) below 1, rho ({self.rho}) at "
                "least 1"
            )
        if self.sigma_max[1] > 1 or self.sigma_min[0] < 1:
            raise ValueError(
                f"sigma_max ({self.sigma_max}) must be at most 1, sigma_min ({self.sigma_min}) at least 1: "
                "beyond, the network was not trained"
            )
        return self
