"""params.yaml as one frozen, strict object. No number has a default here: all stand in the file."""

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import UserError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
NAME = re.compile("[A-Za-z0-9_-]+")
TAKEN = ("best", "analytic", "reference", "toy")
TAKEN_PREFIXES = ("train_", "generate_")
"""What stages call other files beside `<variant>.yaml` and `<variant>.json`."""


class Section(BaseModel):
    """A section of params.yaml: frozen, strictly typed, without unknown keys."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    def kwargs(self) -> dict[str, Any]:
        """The section as the keyword arguments of the call it configures."""
        return self.model_dump()


class Data(Section):
    name: str
    source: str | None
    image_size: Count
    held_out: Count | None
    seed: Seed


class Reference(Section):
    width: Count
    epochs: Count
    batch_size: Count
    lr: Positive
    seed: Seed
    min_accuracy: Annotated[float, Field(ge=0, le=1)]


class FixedNoise(Section):
    """A geometric ladder given by its ends and length."""

    rule: Literal["fixed"]
    sigma_max: Positive
    sigma_min: Positive
    num_levels: Annotated[int, Field(ge=2)]

    @model_validator(mode="after")
    def descending(self) -> Self:
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min ({self.sigma_min}) must be below sigma_max ({self.sigma_max})")
        return self


class AnalyticNoise(Section):
    """Techniques 1 and 2 of NCSNv2, computed on the data set."""

    rule: Literal["analytic"]
    sigma_min: Positive
    overlap: Annotated[float, Field(gt=0, lt=1)]


class TunedNoise(Section):
    """The winner of `tune_noise`."""

    rule: Literal["tuned"]


Noise = Annotated[FixedNoise | AnalyticNoise | TunedNoise, Field(discriminator="rule")]


class FixedSampler(Section):
    rule: Literal["fixed"]
    step_lr: Positive
    steps_per_level: Count


class AnalyticSampler(Section):
    """Technique 4 of NCSNv2: the step from the ladder and the steps per level."""

    rule: Literal["analytic"]
    steps_per_level: Count


class TunedSampler(Section):
    """The winner of `tune_sampler`."""

    rule: Literal["tuned"]


Sampler = Annotated[FixedSampler | AnalyticSampler | TunedSampler, Field(discriminator="rule")]


class Network(Section):
    kind: Literal["ncsn", "ncsnv2"]
    width: Count


class Recipe(Section):
    network: Network
    lr: Positive
    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)]
    adam_eps: Positive
    ema_rate: Fraction
    dequantise: bool
    flip: bool


Bounds = Annotated[list[Positive], Field(min_length=2, max_length=2)]
Rungs = Annotated[list[Count], Field(min_length=1)]


class Search(Section):
    variant: str
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


class Train(Section):
    steps: Count
    batch_size: Count
    microshards: Count
    determinism: Literal["elastic", "fast"]
    checkpoint_every: Count
    log_every: Count
    seed: Seed

    @model_validator(mode="after")
    def divisible(self) -> Self:
        if self.batch_size % self.microshards:
            raise ValueError(
                f"batch_size ({self.batch_size}) must be divisible by microshards ({self.microshards})"
            )
        return self


class Generate(Section):
    num_samples: Count
    shard_size: Count
    seed: Seed


class Evaluate(Section):
    nearest_k: Count
    kid_subsets: Count
    kid_subset_size: Count
    splits: Count
    seed: Seed


class Report(Section):
    grid: Annotated[list[Count], Field(min_length=2, max_length=2)]


class Toy(Section):
    num_samples: Count
    steps: Count
    seed: Seed


class Compute(Section):
    workers: Count
    cpus_per_worker: Count
    use_gpu: bool | Literal["auto"]
    max_failures: Annotated[int, Field(ge=-1)]
    storage: str
    job_address: str | None
    job_storage: str | None


class Tracking(Section):
    enabled: bool
    experiment: str


class Params(Section):
    preset: str
    variants: Annotated[list[str], Field(min_length=1)]
    data: Data
    reference: Reference
    noise: dict[str, Noise]
    tune_noise: TuneNoise
    train: Train
    recipes: dict[str, Recipe]
    sampler: dict[str, Sampler]
    tune_sampler: TuneSampler
    generate: Generate
    evaluate: Evaluate
    report: Report
    toy: Toy
    compute: Compute
    tracking: Tracking

    @model_validator(mode="after")
    def consistent(self) -> Self:
        wrong = [line for rule in RULES for line in rule(self)]
        if wrong:
            raise ValueError("\n  ".join(wrong))
        return self


def _entries(params: Params) -> Iterator[str]:
    """Every variant that is trained or searched has a recipe, a ladder and a sampler."""
    for variant in sorted({*params.variants, params.tune_noise.variant, params.tune_sampler.variant}):
        for name in ("recipes", "noise", "sampler"):
            if variant not in getattr(params, name):
                yield f"variant {variant!r} has no entry in `{name}`: add {name}.{variant}"


def _names(params: Params) -> Iterator[str]:
    """A variant's name is that of files, which must be its own."""
    for variant in sorted({v for v in params.variants if params.variants.count(v) > 1}):
        yield f"variants: {variant!r} stands there twice: remove one"
    for variant in sorted({*params.variants, *params.noise, *params.sampler}):
        if not NAME.fullmatch(variant):
            yield f"variant {variant!r}: rename it with letters, digits, - and _ alone: it names files"
        elif variant in TAKEN or variant.startswith(TAKEN_PREFIXES):
            yield f"variant {variant!r}: rename it: the pipeline has files of that name"


def _searches(params: Params) -> Iterator[str]:
    """The rule `tuned` stands where a search looks, and the search can be held."""
    for name, rules in (("noise", params.noise), ("sampler", params.sampler)):
        searched = getattr(params, f"tune_{name}").variant
        for variant, rule in rules.items():
            if rule.rule == "tuned" and variant != searched:
                yield (
                    f"{name}.{variant}.rule is tuned, but tune_{name}.variant is {searched!r}: "
                    "make them agree, or give the variant another rule"
                )
    if params.tune_sampler.variant not in params.variants:
        yield (
            f"tune_sampler.variant ({params.tune_sampler.variant!r}) is not in variants {params.variants}: "
            "add it there, since its network must be trained, or search another's sampler"
        )
    fixed = {tuple(rule.kwargs().items()) for rule in params.noise.values() if rule.rule == "fixed"}
    searching = any(rule.rule == "tuned" for rule in params.noise.values())
    if searching and params.tune_noise.num_trials <= len(fixed):
        yield (
            f"tune_noise.num_trials ({params.tune_noise.num_trials}) must be at least {1 + len(fixed)}: "
            f"the search starts from the analytic ladder and from {len(fixed)} fixed in `noise`"
        )


def _sizes(params: Params) -> Iterator[str]:
    """The evaluation has enough images, as far as the parameters tell how many there are."""
    counts = {"generate.num_samples": params.generate.num_samples, "data.held_out": params.data.held_out}
    needs = {
        "evaluate.kid_subset_size": params.evaluate.kid_subset_size,
        "evaluate.nearest_k": params.evaluate.nearest_k + 1,
        "evaluate.splits": params.evaluate.splits,
    }
    for key, fewest in needs.items():
        for name, count in counts.items():
            if count is not None and count < fewest:
                value = getattr(params.evaluate, key.split(".")[1])
                yield (
                    f"{key} ({value}) needs {fewest} images, but {name} is {count}: lower it or raise {name}"
                )


def _seeds(params: Params) -> Iterator[str]:
    for name in ("tune_noise", "tune_sampler"):
        seed = getattr(params, name).seed
        if seed == params.generate.seed:
            yield f"{name}.seed ({seed}) is generate.seed: selection and report must not share samples"


def _workers(params: Params) -> Iterator[str]:
    if params.train.microshards % params.compute.workers:
        yield (
            f"train.microshards ({params.train.microshards}) must be divisible by "
            f"compute.workers ({params.compute.workers})"
        )


RULES = (_entries, _names, _searches, _sizes, _seeds, _workers)
"""What holds between sections: each yields the mistakes it finds, with key and mend."""


def parse(raw: Any, where: str) -> Params:
    """Validate the content of a params file.

    Raises:
        UserError: every mistake at once, a line each, with its key and value.
    """
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        lines = [_mistake(dict(e)) for e in error.errors()]
        raise UserError(f"{where}: mend these and run again:\n" + "\n".join(lines)) from error


def _mistake(error: dict[str, Any]) -> str:
    """One line for one mistake: where, what, and what stands there."""
    place = list(map(str, error["loc"]))
    if place[0:1] in (["noise"], ["sampler"]):
        del place[2:3]  # the rule, by which pydantic tells the kinds apart: no key of the file
    what = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "missing":
        what = "is missing"
    elif error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(place[-1], _keys(Section), 1)
        what = f"unknown key{f'; did you mean {near[0]}?' if near else ''}"
    elif isinstance(error["input"], str | int | float | None):
        what += f", found {error['input']!r}"
    return f"  {'.'.join(place)}: {what}" if place else f"  {what}"


def _keys(section: type[Section]) -> set[str]:
    """All keys that any section knows."""
    return set(section.model_fields).union(*map(_keys, section.__subclasses__()))


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and validate a params file (YAML 1.2, as DVC reads it: 1e-4 is a number)."""
    try:
        raw = YAML(typ="safe").load(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: run from the repository's root or `git checkout` it.") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    return parse(raw, str(path))
