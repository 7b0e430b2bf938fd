"""The sections `tune_noise` and `tune_sampler`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.params.section import Count, Positive, Section, Seed

Bounds = Annotated[list[Positive], Field(min_length=2, max_length=2)]
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
            if key != "rungs" and isinstance(value, list) and value[0] > value[1]:
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


class TuneSampler(Search):
    max_nfe: Annotated[int, Field(ge=3)]
    step_lr: Bounds
    steps_per_level: Annotated[list[Count], Field(min_length=2, max_length=2)]
    sigma_max: Bounds
    sigma_min: Bounds
    num_levels: Bounds

    @model_validator(mode="after")
    def within(self) -> Self:
        if self.rungs[0] < 2:
            raise ValueError(
                f"rungs ({self.rungs}) must begin with at least 2 samples: FID needs a covariance"
            )
        if self.sigma_max[1] > 1 or self.sigma_min[0] < 1:
            raise ValueError(
                f"sigma_max ({self.sigma_max}) must be at most 1, sigma_min ({self.sigma_min}) at least 1: "
                "beyond, the network was not trained"
            )
        return self
