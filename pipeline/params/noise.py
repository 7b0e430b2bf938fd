"""The section `noise`: by variant, the ladder of noise levels it is trained on."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.params.section import Levels, Positive, Section


class FixedNoise(Section):
    """A geometric ladder given by its ends and length."""

    rule: Literal["fixed"]
    sigma_max: Positive
    sigma_min: Positive
    num_levels: Levels

    @model_validator(mode="after")
    def descending(self) -> Self:
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min ({self.sigma_min}) must be below sigma_max ({self.sigma_max})")
        return self


class ContinuousNoise(FixedNoise):
    """The range of a network trained at any sigma; the search for a ladder does not start from it."""

    rule: Literal["continuous"]  # type: ignore[assignment]


class AnalyticNoise(Section):
    """Techniques 1 and 2 of NCSNv2, computed on the data set."""

    rule: Literal["analytic"]
    sigma_min: Positive
    overlap: Annotated[float, Field(gt=0, lt=1)]


class TunedNoise(Section):
    """The winner of `tune_noise`, a ladder."""

    rule: Literal["tuned"]


class TunedContinuousNoise(FixedNoise):
    """The winner of `tune_noise`, p_mean and p_std of the EDM loss; the range is given, to sample on."""

    rule: Literal["tuned_continuous"]  # type: ignore[assignment]


Noise = Annotated[
    FixedNoise | ContinuousNoise | AnalyticNoise | TunedNoise | TunedContinuousNoise,
    Field(discriminator="rule"),
]
