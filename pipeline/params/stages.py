"""The sections of the other stages, and the two that change no result."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pipeline.kernels import Kernels
from pipeline.metrics.features import FeatureKind
from pipeline.params.kinds import by_kind
from pipeline.params.section import Count, Levels, NotNegative, Place, Positive, Samples, Section, Seed, once
from pipeline.params.training import Precision

MOST_SAMPLES = 10**8
"""Of a row; what is kept of each shard is counted in memory."""


class Data(Section):
    name: str
    source: Place | None
    image_size: Count
    num_held_out: Count | None
    seed: Seed
    background: Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=3, max_length=3)] | None
    white: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The value of a pixel of 16 bits that stands for white, such as 65535, or 4095 of 12 bits; null: images of 16
    bits are refused."""
    to_rgb: bool = False
    """Whether palettes and grey images become RGB, which loses nothing; else palettes, and grey among colour, are
    refused."""


Features = Annotated[FeatureKind, by_kind("features")]
"""A kind of pipeline.metrics.features or of extensions/features."""


class Selection(Section):
    """The choice among a training's snapshots; idle where train.snapshot_every is 0."""

    num_samples: Samples
    seed: Seed


class Generate(Section):
    num_samples: Count
    sample_sets: Annotated[Count, Field(le=1000)]
    shard_size: Count
    precision: Precision
    compile: bool
    seed: Seed
    selection: Selection

    @model_validator(mode="after")
    def countable(self) -> Self:
        if (total := self.num_samples * self.sample_sets) > MOST_SAMPLES:
            raise ValueError(f"num_samples x sample_sets ({total}) must be at most {MOST_SAMPLES}")
        return self


class Likelihood(Section):
    num_images: Count
    num_levels: Levels


class Evaluate(Section):
    reference: Literal["train", "held_out"]
    """Whose statistics every number is taken against; see `pipeline.metrics.inputs.reference_split`."""
    nearest_k: Count
    kid_subsets: Annotated[Count, Field(le=100_000)]
    kid_subset_size: Annotated[Count, Field(ge=2)]
    splits: Count
    fid_points: Annotated[int, Field(ge=3, le=1000)]
    likelihood: Likelihood
    seed: Seed


class Report(Section):
    grid: Annotated[list[Annotated[Count, Field(le=1000)]], Field(min_length=2, max_length=2)]
    margin: Annotated[float, Field(gt=0, lt=1)]


class ToyLosses(Section):
    """Figure 1's trainings: one for each sigma, 0 being no noise."""

    sigmas: Annotated[list[NotNegative], Field(min_length=1), AfterValidator(once)]
    width: Count
    steps: Count
    batch_size: Count
    lr: Positive


class Toy(Section):
    num_samples: Count
    steps: Count
    losses: ToyLosses
    seed: Seed


class Compute(Section):
    """`workers: [fewest, most]` in params.yaml is `workers` and `most_workers` here."""

    workers: Count
    most_workers: Count | None = None
    cpus_per_worker: Count
    use_gpu: bool | Literal["auto"]
    gpus_per_trial: Positive | None
    workers_per_trial: Count = 1
    max_failures: Annotated[int, Field(ge=-1, le=10**9)]
    hang_timeout_s: Positive
    kernels: Kernels
    storage: Place
    job_address: str | None
    job_storage: Place | None

    @model_validator(mode="before")
    @classmethod
    def _range(cls, raw: Any) -> Any:
        workers = raw.get("workers") if isinstance(raw, dict) else None
        if not (isinstance(workers, list) and len(workers) == 2):
            return raw
        return {**raw, "workers": workers[0], "most_workers": workers[1]}

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.most_workers is not None and self.most_workers < self.workers:
            raise ValueError(f"workers ([{self.workers}, {self.most_workers}]): give the fewest, then the most")
        return self


class Tracking(Section):
    enabled: bool
    unreachable: Literal["refuse", "record"] = "refuse"
    experiment: str
