"""Schema of params.yaml: all sections as one object, and the rules between sections."""

import re
from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.kinds import kind_of
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.sampler import SamplerSettings
from pipeline.params.noise import Noise, NoiseLevels, SearchedNoise
from pipeline.params.sampler import Frontier, Sampler, SearchedSampler
from pipeline.params.search import StartingLaw, TuneNoise, TuneSampler
from pipeline.params.section import Section, once
from pipeline.params.stages import Compute, Data, Evaluate, Features, Generate, Report, Toy, Tracking
from pipeline.params.training import Recipe, Train
from pipeline.seeds import TableRow, Training, table_rows, trainings

NAME = re.compile("[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
PLAIN = "letters, digits, - and _ alone, 64 at most, the first no -"
MOST = 1000
"""Of networks, rows and other lists whose combinations are looked at."""
TAKEN = ("features", "toy")
TAKEN_PREFIXES = ("train_", "generate_")
"""What stages call other files in artifacts/metrics."""


class ExtraRow(Section):
    """A row on a network of a further training seed; `python -m pipeline.commands.preset` writes it."""

    row: str
    network: str


class Params(Section):
    """All of params.yaml."""

    preset: str
    networks: Annotated[list[str], Field(min_length=1, max_length=MOST), AfterValidator(once)]
    rows: Annotated[dict[str, str], Field(min_length=1, max_length=MOST)]
    extra_seeds: Annotated[list[Annotated[int, Field(ge=1, lt=2**31)]], Field(max_length=MOST)]
    extra_rows: dict[str, ExtraRow]
    data: Data
    features: Features
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

    def trainings(self) -> dict[str, Training]:
        """Every training by the name of its files, see `pipeline.seeds`."""
        return trainings(self.networks, self.train.seed, self.extra_seeds)

    def all_rows(self) -> dict[str, TableRow]:
        """Every row of the table by the name of its files, see `pipeline.seeds`."""
        return table_rows(self.rows, self.extra_seeds)

    def searches(self, row: str) -> list[str]:
        """The searches, which judge by half of the held-out images, that had a part in a row of `rows`."""
        noise, sampler = self.noise[self.rows[row]], self.sampler[row]
        return [found.from_ for found in (noise, sampler) if isinstance(found, SearchedNoise | SearchedSampler)]

    @model_validator(mode="after")
    def consistent(self) -> Self:
        wrong = [line for rule in RULES for line in rule(self)]
        if wrong:
            raise ValueError("\n  ".join(wrong))
        return self


def extra_rows(rows: dict[str, str], seeds: list[int]) -> dict[str, dict[str, str]]:
    """The section `extra_rows`: each row on each further training seed of its network."""
    return {
        f"{row}-{seed}": {"row": row, "network": f"{network}-{seed}"} for row, network in rows.items() for seed in seeds
    }


def _entries(params: Params) -> Iterator[str]:
    """Every network has a recipe and a noise range, every row a network and a sampler."""
    for network in sorted({*params.networks, params.tune_noise.network}):
        if network not in params.recipes:
            yield f"network {network!r} has no entry in `recipes`: add recipes.{network}"
    for network in params.networks:
        if network not in params.noise:
            yield f"network {network!r} has no entry in `noise`: add noise.{network}"
    for row, network in params.rows.items():
        if row not in params.sampler:
            yield f"row {row!r} has no entry in `sampler`: add sampler.{row}"
        if network not in params.networks:
            yield f"rows.{row} ({network!r}) is not in networks {params.networks}: name one of them"


def _named_networks(params: Params) -> Iterator[str]:
    """What a stage samples from is trained."""
    named = {
        "tune_sampler.network": params.tune_sampler.network,
        "tune_sampler.baseline.network": params.tune_sampler.baseline.network,
        "frontier.network": params.frontier.network,
    }
    for key, network in named.items():
        if network not in params.networks:
            yield f"{key} ({network!r}) is not in networks {params.networks}: name one of them"
    if params.rows.get(params.frontier.network) != params.frontier.network:
        yield (
            f"frontier.network ({params.frontier.network!r}) has no row of the same name, whose choice of a "
            f"checkpoint it takes: add `{params.frontier.network}: {params.frontier.network}` to rows"
        )


def _conditional(params: Params) -> Iterator[str]:
    """A network of fixed levels is trained and sampled on them."""
    fixed = {network for network, recipe in params.recipes.items() if recipe.network.conditional_on_levels}
    for network in sorted(fixed):
        if not (loss := params.recipes[network].loss).on_levels:
            yield f"recipes.{network}.loss.kind is {kind_of(loss)}: the network ncsn knows levels only"
    if params.tune_noise.algorithm == "pbt" and params.tune_noise.network in fixed:
        yield (
            f"tune_noise.algorithm is pbt, which changes the levels of a network in training, but that of "
            f"{params.tune_noise.network}, {kind_of(params.recipes[params.tune_noise.network].network)}, has "
            "weights for each level: use tpe or random"
        )
    baseline = params.tune_sampler.baseline
    drawn = {f"sampler.{row}": (params.sampler.get(row), network) for row, network in params.rows.items()}
    drawn["tune_sampler.baseline"] = (baseline.sampler, baseline.network)
    drawn["tune_noise.sampler"] = (params.tune_noise.sampler, params.tune_noise.network)
    for key, (sampler, network) in drawn.items():
        if network in fixed and isinstance(sampler, SamplerSettings) and not sampler.on_trained_levels:
            yield (
                f"{key} is {kind_of(sampler)}, which takes levels of its own, but the network "
                f"{kind_of(params.recipes[network].network)} knows those of its training only: use langevin "
                "or tune_sampler's choice, or another network"
            )
    if params.frontier.network in fixed:
        network = params.frontier.network
        kind = kind_of(params.recipes[network].network)
        yield f"frontier.network ({network!r}) has the network {kind}, which knows its own levels only"


def _ends(params: Params) -> Iterator[str]:
    """A sampler's own levels lie within those of the training, where params.yaml has them."""
    for row, network in params.rows.items():
        noise, sampler = params.noise.get(network), params.sampler.get(row)
        if isinstance(noise, NoiseLevels) and isinstance(sampler, SamplerSettings):
            try:
                sampler.on(Ladder.read(noise.kwargs()))
            except UserError as error:
                yield f"sampler.{row}: {error}"


def _names(params: Params) -> Iterator[str]:
    """Names are those of files and of what MLflow is asked for; those of networks and rows must be their own."""
    networks = {*params.networks, *params.noise, *params.recipes}
    named = {"network": networks, "row": {*params.rows, *params.sampler}, "start": params.tune_noise.starts}
    for what, names in {"preset": [params.preset], **named}.items():
        for name in sorted(names):
            if not NAME.fullmatch(name):
                yield f"{what} {name!r}: rename it with {PLAIN}: it names files"
            elif what in ("network", "row") and (name in TAKEN or name.startswith(TAKEN_PREFIXES)):
                yield f"{what} {name!r}: rename it: the pipeline has files of that name"


def _searches(params: Params) -> Iterator[str]:
    """What is taken from a search is what it searches."""
    for network, noise in params.noise.items():
        if isinstance(noise, SearchedNoise):
            yield from _taken(params, "tune_noise", f"noise.{network}", network)
    for row, network in params.rows.items():
        if isinstance(params.sampler.get(row), SearchedSampler):
            yield from _taken(params, "tune_sampler", f"sampler.{row}", network)


def _taken(params: Params, search: str, key: str, network: str) -> Iterator[str]:
    section: TuneNoise | TuneSampler = getattr(params, search)
    if section.network != network:
        yield (
            f"{key} is from {search}, which searches for the network {section.network!r}, not {network!r}: "
            f"make {search}.network {network!r}, or give {key} a kind"
        )
    if section.num_trials == 0:
        yield f"{key} is from {search}, but {search}.num_trials is 0: raise it, or give {key} a kind"


def _laws(params: Params) -> Iterator[str]:
    """Levels are searched for a loss that has them, p_mean and p_std for the loss that has these."""
    for network, noise in params.noise.items():
        if not isinstance(noise, SearchedNoise) or network not in params.recipes:
            continue
        loss, law = kind_of(params.recipes[network].loss), params.recipes[network].loss.searched
        if law and not noise.has_range:
            yield (
                f"noise.{network} is from tune_noise, which finds {' and '.join(law)} for the loss of "
                f"recipes.{network}, {loss}: add the sigma_max, sigma_min and num_levels to sample on"
            )
        if not law and noise.has_range:
            yield (
                f"noise.{network} is from tune_noise, which finds the levels for the loss of "
                f"recipes.{network}, {loss}: remove sigma_max, sigma_min and num_levels, or use the loss edm"
            )


def _starts(params: Params) -> Iterator[str]:
    """The search for noise starts from what it searches for."""
    tune = params.tune_noise
    recipe = params.recipes.get(tune.network)
    law = recipe is not None and bool(recipe.loss.searched)
    for name, start in tune.starts.items() if recipe else ():
        if isinstance(start, StartingLaw) != law:
            keys = "p_mean and p_std" if law else "sigma_max, sigma_min and num_levels"
            yield (f"tune_noise.starts.{name}: the loss of recipes.{tune.network} is searched by {keys}: give these")
    if law and tune.max_nfe < 3:
        yield (f"tune_noise.max_nfe ({tune.max_nfe}) must be at least 3: Heun's method takes as many on two levels")


def _sizes(params: Params) -> Iterator[str]:
    """The evaluation has enough images, as far as the parameters tell how many there are."""
    held_out = params.data.num_held_out
    counts = {"generate.num_samples": params.generate.num_samples, "data.num_held_out": held_out}
    whole = [row for row, network in params.rows.items() if row in params.sampler and network in params.noise]
    if any(map(params.searches, whole)) and held_out and params.evaluate.reference == "held_out":
        counts["half of data.num_held_out, for a searched row,"] = held_out // 2
    needs = {
        "evaluate.kid_subset_size": params.evaluate.kid_subset_size,
        "evaluate.nearest_k": params.evaluate.nearest_k + 1,
        "evaluate.splits": params.evaluate.splits,
    }
    for key, fewest in needs.items():
        for name, count in counts.items():
            if count is not None and count < fewest:
                value = getattr(params.evaluate, key.split(".")[1])
                yield (f"{key} ({value}) needs {fewest} images, but {name} is {count}: lower it or raise {name}")


def _image_size(params: Params) -> Iterator[str]:
    """Every network that is trained, and the toy's auto-encoder, can halve the images as often as it does.

    A network of `extensions` without `check_size` refuses when it is built.
    """
    size = params.data.image_size
    for network in sorted({*params.networks, params.tune_noise.network} & {*params.recipes}):
        try:
            getattr(params.recipes[network].network, "check_size", lambda _: None)(size)
        except UserError as error:
            yield f"data.image_size ({size}) does not suit recipes.{network}.network: {error}"
    if size % 4:
        yield f"data.image_size ({size}) does not suit the stage toy, whose auto-encoder needs a multiple of 4"


def _seeds(params: Params) -> Iterator[str]:
    """No two of the report, the searches and the choice of a checkpoint share samples."""
    own, offsets = params.generate.selection, (0, *params.extra_seeds)
    drawn, choosing = ({first + n for n in offsets} for first in (params.generate.seed, own.seed))
    for name in ("tune_noise", "tune_sampler", "frontier"):
        section = getattr(params, name)
        taken = range(section.seed, section.seed + getattr(section, "repeats", 0) + 1)
        yield from _shared(name, taken, drawn, params.generate.seed, "generate", "selection and report must not share")
        yield from _shared(name, taken, choosing, own.seed, "generate.selection", "no two choices may share")
    for seed in sorted(drawn & choosing):
        yield (
            f"generate.seed and generate.selection.seed ({params.generate.selection.seed}) both give {seed}, "
            "maybe plus one of extra_seeds: selection and report must not share samples"
        )


def _shared(name: str, taken: range, others: set[int], first: int, key: str, rule: str) -> Iterator[str]:
    for seed in sorted(seed for seed in others if seed in taken):
        plus = "" if seed == first else " plus one of extra_seeds"
        yield f"{name}.seed ({seed}) is {key}.seed{plus}: {rule} samples"


def _snapshots(params: Params) -> Iterator[str]:
    every = params.train.snapshot_every
    for network in params.networks:
        recipe = params.recipes.get(network)
        if recipe and every > (steps := recipe.steps or params.train.steps):
            yield (
                f"train.snapshot_every ({every}) is above the {steps} steps of recipes.{network}: lower it, "
                "or set it to 0 for the last checkpoint alone"
            )


def _extra_seeds(params: Params) -> Iterator[str]:
    """A further seed is another training with files of its own, and gives each row another one."""
    seeds = params.extra_seeds
    if len({params.train.seed, *seeds}) <= len(seeds):
        yield f"extra_seeds ({seeds}) repeats a seed, or train.seed ({params.train.seed}): name each once"
    taken = {*params.networks, *params.noise, *params.rows}
    for name in sorted(taken & {f"{n}-{s}" for n in {*params.networks, *params.rows} for s in seeds}):
        yield f"{name!r}: rename it: a further seed's files have that name"
    found = {name: row.kwargs() for name, row in params.extra_rows.items()}
    if found != extra_rows(params.rows, seeds):
        asked = "".join(f" {seed}" for seed in seeds)
        yield (
            f"extra_rows holds {sorted(found)}, but rows x extra_seeds ({seeds}) are "
            f"{sorted(extra_rows(params.rows, seeds))}: write it by "
            f"`python -m pipeline.commands.preset --extra-seeds{asked}`"
        )


def _workers(params: Params) -> Iterator[str]:
    if params.train.micro_batches % params.compute.workers:
        yield (
            f"train.micro_batches ({params.train.micro_batches}) must be divisible by "
            f"compute.workers ({params.compute.workers})"
        )
    if params.tune_noise.micro_batches % params.compute.workers_per_trial:
        yield (
            f"tune_noise.micro_batches ({params.tune_noise.micro_batches}) must be divisible by "
            f"compute.workers_per_trial ({params.compute.workers_per_trial})"
        )


RULES = (
    _entries, _named_networks, _conditional, _ends, _names, _searches, _laws, _starts,
    _sizes, _image_size, _seeds, _snapshots, _extra_seeds, _workers,
)  # fmt: skip
"""What holds between sections: each yields the mistakes it finds, with the key and the fix."""
