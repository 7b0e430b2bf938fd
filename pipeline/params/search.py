"""The sections `tune_noise` and `tune_sampler`."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from pipeline.params.noise import NoiseLevels
from pipeline.params.sampler import GivenSampler, SamplerKind
from pipeline.params.section import Count, Positive, Repeats, Samples, Section, Seed, ascending, once

Bounds = Annotated[list[Positive], Field(min_length=2, max_length=2)]
Differences = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=2, max_length=2)]
Rungs = Annotated[list[Count], Field(min_length=1), AfterValidator(ascending)]


class SearchSection(Section):
    """What both searches share."""

    network: str
    algorithm: Literal["tpe", "random"]
    num_trials: Annotated[int, Field(ge=0, le=1_000_000)]
    """0: nothing is searched."""
    rungs: Rungs
    reduction_factor: Annotated[int, Field(ge=2, le=1000)]
    max_nfe: Count
    max_concurrent: Count
    seed: Seed

    @model_validator(mode="after")
    def bounded(self) -> Self:
        for key, value in self.kwargs().items():
            bounds = isinstance(value, list) and key not in ("rungs", "max_nfe", "kinds")
            if bounds and value[0] > value[1]:
                raise ValueError(f"{key} ({value}) must be [lower, upper]")
        return self


class Analytic(Section):
    """The choices that techniques 1 and 2 of NCSNv2 leave open."""

    sigma_min: Positive
    overlap: Annotated[float, Field(gt=0, lt=1)]


class StartingLaw(Section):
    """A starting point of a network with the loss edm."""

    p_mean: Annotated[float, Field(allow_inf_nan=False)]
    p_std: Positive


def _start(value: object) -> str:
    keys = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    return "law" if "p_mean" in keys or "p_std" in keys else "levels"


Start = Annotated[Annotated[NoiseLevels, Tag("levels")] | Annotated[StartingLaw, Tag("law")], Discriminator(_start)]


class TuneNoise(SearchSection):
    """The search for a noise range by short trainings."""

    analytic: Analytic
    starts: dict[str, Start]
    """Starting points by name, after the analytic choice."""
    heun: NoiseLevels
    """For the loss edm: the range between whose ends the samples of a trial are drawn, by Heun's method."""
    batch_size: Count
    micro_batches: Count
    num_samples: Samples
    sampler: GivenSampler | None
    """How a trial's samples are drawn. None: Langevin dynamics with the step of technique 4, of the loss edm by
    Heun's method, within `max_nfe`."""
    sigma_max_ratio: Bounds
    sigma_min_ratio: Bounds
    num_levels_ratio: Bounds
    p_mean_shift: Differences
    p_std_ratio: Bounds
    repeats: Repeats
    algorithm: Literal["tpe", "random", "pbt"]  # type: ignore[assignment]

    def num_starts(self) -> int:
        """Starting points with the analytic choice, those that stand there twice counted once."""
        return 1 + len({tuple(start.kwargs().items()) for start in self.starts.values()})

    @model_validator(mode="after")
    def startable(self) -> Self:
        if taken := sorted({"tuned", "analytic", "verdict"} & self.starts.keys()):
            raise ValueError(f"starts.{taken[0]}: rename it: the search's results have that name")
        if 0 < self.num_trials < self.num_starts():
            raise ValueError(
                f"num_trials ({self.num_trials}) must be at least {self.num_starts()}: the search starts "
                f"from the analytic choice and from {self.num_starts() - 1} in `starts`; 0 searches nothing"
            )
        return self

    @model_validator(mode="after")
    def repeated(self) -> Self:
        if self.repeats == 1:
            raise ValueError("repeats (1) must be 0 or at least 2: a spread needs two seeds")
        if self.batch_size % self.micro_batches:
            raise ValueError(
                f"batch_size ({self.batch_size}) must be divisible by micro_batches ({self.micro_batches})"
            )
        if self.algorithm == "pbt" and self.num_trials and (self.num_trials < 4 or len(self.rungs) < 2):
            raise ValueError(
                f"algorithm pbt needs 4 members, num_trials ({self.num_trials}), and 2 rungs ({self.rungs}): "
                "a quarter of them copies another one at each rung but the last"
            )
        return self


class BaselineEntry(Section):
    """A network and its sampler, whose FID the choice `fewest_nfe` equals."""

    network: str
    sampler: GivenSampler


class TuneSampler(SearchSection):
    """The search for a sampler on a trained network."""

    baseline: BaselineEntry
    max_nfe: Annotated[list[Annotated[int, Field(ge=3, le=10**9)]], Field(min_length=1), AfterValidator(ascending)]  # type: ignore[assignment]
    repeats: Annotated[Repeats, Field(ge=2)]
    kinds: Annotated[list[SamplerKind], Field(min_length=1), AfterValidator(once)]
    budget_share: Bounds
    step_size_ratio: Bounds
    steps_per_level: Annotated[list[Count], Field(min_length=2, max_length=2)]
    sigma_max_ratio: Bounds
    sigma_min_ratio: Bounds
    snr: Bounds
    churn: Bounds
    rho: Bounds

    @model_validator(mode="after")
    def within(self) -> Self:
        if self.rungs[0] < 2:
            raise ValueError(f"rungs ({self.rungs}) must begin with at least 2 samples: FID needs a covariance")
        if self.budget_share[1] > 1 or self.snr[1] >= 1 or self.rho[0] < 1:
            raise ValueError(
                f"budget_share ({self.budget_share}) must be at most 1, snr ({self.snr}) below 1, "
                f"rho ({self.rho}) at least 1"
            )
        if self.sigma_max_ratio[1] > 1 or self.sigma_min_ratio[0] < 1:
            raise ValueError(
                f"sigma_max_ratio ({self.sigma_max_ratio}) must be at most 1, "
                f"sigma_min_ratio ({self.sigma_min_ratio}) at least 1: "
                "the network was not trained beyond its own range"
            )
        return self
