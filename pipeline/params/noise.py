"""The section `noise`: by network, the range of noise levels it is trained on."""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from pipeline.params.section import Levels, Positive, Section


class NoiseLevels(Section):
    """Geometric noise levels given by their ends and number."""

    sigma_max: Positive
    sigma_min: Positive
    num_levels: Levels

    @model_validator(mode="after")
    def descending(self) -> Self:
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min ({self.sigma_min}) must be below sigma_max ({self.sigma_max})")
        return self


class GeometricNoise(NoiseLevels):
    """Levels as given."""

    kind: Literal["geometric"]


class ContinuousNoise(NoiseLevels):
    """The range of a network trained at any sigma; its samples are drawn between these ends."""

    kind: Literal["continuous"]


class AnalyticNoise(Section):
    """Techniques 1 and 2 of NCSNv2, computed on the data set."""

    kind: Literal["analytic"]
    sigma_min: Positive
    overlap: Annotated[float, Field(gt=0, lt=1)]


class SearchedNoise(Section):
    """What `tune_noise` found: levels; or p_mean and p_std of the loss edm, for which the range is given."""

    from_: Annotated[Literal["tune_noise"], Field(alias="from")]
    tie: Literal["start", "found"] = "start"
    """What is taken where the winner is no better than a starting point: which of equals wins depends on rounding."""
    sigma_max: Positive | None = None
    sigma_min: Positive | None = None
    num_levels: Levels | None = None

    @model_validator(mode="after")
    def whole(self) -> Self:
        given = [self.sigma_max, self.sigma_min, self.num_levels]
        if any(given) and not all(given):
            raise ValueError("give all of sigma_max, sigma_min and num_levels, or none of them")
        if self.sigma_max and self.sigma_min and self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min ({self.sigma_min}) must be below sigma_max ({self.sigma_max})")
        return self

    @property
    def has_range(self) -> bool:
        """Whether the range is given, so that p_mean and p_std are what is searched."""
        return self.sigma_max is not None


def kind_or_from(value: Any) -> str | None:
    """What tells the entries of `noise` and `sampler` apart: `from` where a search chose, else the kind."""
    if isinstance(value, dict):
        return "from" if "from" in value else value.get("kind")
    return getattr(value, "kind", "from")


Noise = Annotated[
    Annotated[GeometricNoise, Tag("geometric")]
    | Annotated[ContinuousNoise, Tag("continuous")]
    | Annotated[AnalyticNoise, Tag("analytic")]
    | Annotated[SearchedNoise, Tag("from")],
    Discriminator(kind_or_from),
]
