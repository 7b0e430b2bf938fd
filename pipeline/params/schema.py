"""params.yaml as one object, and what holds between its sections."""

import re
from collections.abc import Iterator
from typing import Annotated, NamedTuple, Self

from pydantic import Field, model_validator

from pipeline.params.noise import Noise
from pipeline.params.sampler import Frontier, Sampler
from pipeline.params.search import TuneNoise, TuneSampler
from pipeline.params.section import Section
from pipeline.params.stages import Compute, Data, Evaluate, Generate, Reference, Report, Toy, Tracking
from pipeline.params.training import Recipe, Train

NAME = re.compile("[A-Za-z0-9_-]+")
TAKEN = ("best", "analytic", "reference", "toy")
TAKEN_PREFIXES = ("train_", "generate_")
"""What stages call other files beside `<variant>.yaml` and `<variant>.json`."""


SEARCHED = ("tuned", "tuned_continuous", "fewest", "knee")
"""The rules that take what a search finds."""


def searched(noise: Noise, sampler: Sampler) -> bool:
    """Whether a search, which judges by half of the held-out images, had a part in a variant."""
    return noise.rule in SEARCHED or sampler.rule in SEARCHED


class Network(NamedTuple):
    """What a network of the table is: a recipe trained from a seed."""

    variant: str
    seed: int
    offset: int
    """Added to generate.seed, so that no two networks of a variant share the noise of a sample."""


class Params(Section):
    preset: str
    variants: Annotated[list[str], Field(min_length=1)]
    more_seeds: list[Annotated[int, Field(ge=1, lt=2**31)]]
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
    frontier: Frontier
    report: Report
    toy: Toy
    compute: Compute
    tracking: Tracking

    def networks(self) -> dict[str, Network]:
        """Every network by the name of its files, dvc.yaml's ${key}: V, and V-S of each further seed S."""
        first = {v: Network(v, self.train.seed, 0) for v in self.variants}
        return first | {f"{v}-{s}": Network(v, s, s) for v in self.variants for s in self.more_seeds}

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
    for variant in sorted(params.sampler.keys() - params.noise.keys()):
        yield f"sampler.{variant} has no ladder to go by: add noise.{variant}, or remove it"


def _conditional(params: Params) -> Iterator[str]:
    """A network of fixed levels is trained and sampled on them."""
    searched = params.recipes.get(params.tune_noise.variant)
    if params.tune_noise.algorithm == "pbt" and searched and searched.network.kind == "ncsn":
        yield (
            f"tune_noise.algorithm is pbt, which changes the levels of a network in training, but that of "
            f"{params.tune_noise.variant}, ncsn, has weights for each level: use tpe or random"
        )
    for variant, recipe in params.recipes.items():
        if recipe.network.kind != "ncsn":
            continue
        if recipe.loss.kind != "levels":
            yield f"recipes.{variant}.loss.kind is {recipe.loss.kind}: the network ncsn knows levels only"
        rule = params.sampler[variant].rule if variant in params.sampler else "fixed"
        if rule not in ("fixed", "analytic", *SEARCHED):
            yield (
                f"sampler.{variant}.rule is {rule}, which takes levels of its own, but the network ncsn "
                "knows those of its training only: use fixed, analytic or tuned, or another network"
            )


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
            if rule.rule in SEARCHED and not _twins(params, variant, searched):
                yield (
                    f"{name}.{variant}.rule is {rule.rule}, but tune_{name}.variant is {searched!r}: "
                    "make them agree, or give the variant another rule, or the same recipe and noise"
                )
    baseline, rules = params.tune_sampler.baseline, params.sampler
    own = baseline == params.tune_sampler.variant
    if baseline not in params.variants or (not own and rules[baseline].rule in SEARCHED):
        yield (
            f"tune_sampler.baseline ({baseline!r}) must be one of variants {params.variants} whose sampler "
            "is not searched, or tune_sampler.variant, for its analytic choice"
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


def _laws(params: Params) -> Iterator[str]:
    """A ladder is searched for a loss that has one, p_mean and p_std for the loss that has these."""
    for variant, rule in params.noise.items():
        loss = params.recipes[variant].loss.kind if variant in params.recipes else None
        if rule.rule == "tuned" and loss == "edm":
            yield (
                f"noise.{variant}.rule is tuned, but recipes.{variant}.loss.kind is edm, which has no "
                "ladder: use tuned_continuous with the sigma_max, sigma_min and num_levels to sample on"
            )
        if rule.rule == "tuned_continuous" and loss not in ("edm", None):
            yield (
                f"noise.{variant}.rule is tuned_continuous, but recipes.{variant}.loss.kind is {loss}, which "
                "has no p_mean and p_std: use the loss edm, or the rule tuned"
            )
    if any(rule.rule == "tuned_continuous" for rule in params.noise.values()):
        for key, fewest, what in (
            ("num_trials", 2, "the search starts from the analytic p_mean and p_std and from the recipe's"),
            ("max_nfe", 3, "Heun's method takes as many on two levels"),
        ):
            if (value := getattr(params.tune_noise, key)) < fewest:
                yield f"tune_noise.{key} ({value}) must be at least {fewest}: {what}"


def _twins(params: Params, variant: str, other: str) -> bool:
    """Whether two variants have one network: the same recipe on the same noise."""
    return all(
        getattr(params, name).get(variant) == getattr(params, name).get(other)
        for name in ("recipes", "noise")
    )


def _frontier(params: Params) -> Iterator[str]:
    """The samplers are compared on a network that is trained, and takes any levels."""
    variant = params.frontier.variant
    if variant not in params.variants:
        yield f"frontier.variant ({variant!r}) is not in variants {params.variants}: name one of them"
    elif variant in params.recipes and params.recipes[variant].network.kind == "ncsn":
        yield f"frontier.variant ({variant!r}) has the network ncsn, which knows its own levels only"


def _sizes(params: Params) -> Iterator[str]:
    """The evaluation has enough images, as far as the parameters tell how many there are."""
    counts = {"generate.num_samples": params.generate.num_samples, "data.held_out": params.data.held_out}
    whole = {*params.variants} & params.noise.keys() & params.sampler.keys()
    halved = any(searched(params.noise[v], params.sampler[v]) for v in whole)
    if halved and params.data.held_out and params.evaluate.reference == "held_out":
        counts["half of data.held_out, for a searched variant,"] = params.data.held_out // 2
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
    """No two of the report, the searches and the choice of a checkpoint share samples."""
    drawn, choosing = (
        {seed + offset for offset in (0, *params.more_seeds)}
        for seed in (params.generate.seed, params.generate.selection.seed)
    )
    others = {name: [getattr(params, name).seed] for name in ("tune_noise", "tune_sampler", "frontier")}
    for name in ("tune_noise", "tune_sampler"):
        others[name] += [getattr(params, name).seed + n + 1 for n in range(getattr(params, name).repeats)]
    for name, seed in ((name, seed) for name, seeds in others.items() for seed in seeds):
        if seed in drawn:
            plus = "" if seed == params.generate.seed else " plus one of more_seeds"
            yield f"{name}.seed ({seed}) is generate.seed{plus}: selection and report must not share samples"
        if seed in choosing:
            plus = "" if seed == params.generate.selection.seed else " plus one of more_seeds"
            yield f"{name}.seed ({seed}) is generate.selection.seed{plus}: no two choices may share samples"
    for seed in sorted(drawn & choosing):
        yield (
            f"generate.seed and generate.selection.seed ({params.generate.selection.seed}) both give {seed}, "
            "maybe plus one of more_seeds: selection and report must not share samples"
        )


def _snapshots(params: Params) -> Iterator[str]:
    every = params.train.snapshot_every
    for variant in params.variants:
        recipe = params.recipes.get(variant)
        if recipe and every > (steps := recipe.steps or params.train.steps):
            yield (
                f"train.snapshot_every ({every}) is above the {steps} steps of recipes.{variant}: lower it, "
                "or set it to 0 for the last checkpoint alone"
            )


def _repeats(params: Params) -> Iterator[str]:
    """A further seed is another training with files of its own."""
    seeds = params.more_seeds
    if len({params.train.seed, *seeds}) <= len(seeds):
        yield f"more_seeds ({seeds}) repeats a seed, or train.seed ({params.train.seed}): name each once"
    taken = {*params.variants, *params.noise, *params.sampler}
    for name in sorted(taken & {f"{v}-{s}" for v in params.variants for s in seeds}):
        yield f"variant {name!r}: rename it: a further seed's files have that name"


def _workers(params: Params) -> Iterator[str]:
    if params.train.microshards % params.compute.workers:
        yield (
            f"train.microshards ({params.train.microshards}) must be divisible by "
            f"compute.workers ({params.compute.workers})"
        )
    if params.tune_noise.microshards % params.compute.workers_per_trial:
        yield (
            f"tune_noise.microshards ({params.tune_noise.microshards}) must be divisible by "
            f"compute.workers_per_trial ({params.compute.workers_per_trial})"
        )


RULES = (
    _entries, _conditional, _names, _searches, _laws, _frontier,
    _sizes, _seeds, _snapshots, _repeats, _workers,
)  # fmt: skip
"""What holds between sections: each yields the mistakes it finds, with key and mend."""
