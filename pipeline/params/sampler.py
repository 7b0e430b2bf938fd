"""The section `sampler`: by row of the table, how its samples are drawn; and the section `frontier`."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from pipeline.ncsn import kinds
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.sampler import SamplerSettings
from pipeline.params.kinds import by_kind, read_kind
from pipeline.params.section import Count, Levels, Samples, Section, Seed, ascending


class SearchedSampler(Section):
    """What `tune_sampler` found: lowest FID, fewest evaluations at the baseline's FID, or the knee."""

    from_: Annotated[Literal["tune_sampler"], Field(alias="from")]
    choose: Literal["lowest_fid", "fewest_nfe", "knee"]


GivenSampler = Annotated[SamplerSettings, by_kind("samplers")]
"""By kind."""
Sampler = Annotated[SamplerSettings | SearchedSampler, by_kind("samplers", SearchedSampler)]
"""By kind, or from a search."""


def _known(kind: str) -> str:
    if kind not in kinds.kinds("samplers"):
        raise ValueError(f"none of the samplers: {', '.join(kinds.kinds('samplers'))}")
    return kind


SamplerKind = Annotated[str, AfterValidator(_known)]
"""The name of a kind."""


class Frontier(Section):
    """FID against network evaluations, for every kind of sampler on one network."""

    network: str
    nfe: Annotated[list[Levels], Field(min_length=1), AfterValidator(ascending)]
    num_samples: Samples
    shard_size: Count
    rho: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    seed: Seed
    options: dict[SamplerKind, dict[str, Any]] = Field(default_factory=dict)
    """By kind, keys of the section in params.yaml: the settings that the comparison leaves open."""

    @model_validator(mode="before")
    @classmethod
    def _apart(cls, raw: Any) -> Any:
        """The keys that are kinds as `options`."""
        if not isinstance(raw, dict) or "options" in raw:
            return raw
        own = {key: raw[key] for key in raw if key in kinds.kinds("samplers")}
        return {**{key: value for key, value in raw.items() if key not in own}, "options": own}

    @model_serializer(mode="wrap")
    def _together(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        found: dict[str, object] = handler(self)
        found.pop("options", None)
        return {**found, **self.options}

    @model_validator(mode="after")
    def _checked(self) -> Self:
        for kind, options in self.options.items():
            if "start" in options:
                raise ValueError(f"{kind}: start is for rows: the frontier begins all kinds at noise. Remove it.")
            cls: type[SamplerSettings] = kinds.find("samplers", kind)
            try:
                read_kind("samplers", {"kind": kind, **cls.compared(2, self.rho), **options})
            except UserError as error:
                raise ValueError(f"{kind}: {error}") from error
        return self
