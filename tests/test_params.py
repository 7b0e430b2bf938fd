"""params.yaml is strict: each kind of mistake is told with its key, and all of them at once."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from pipeline.commands.preset import compose, known
from pipeline.ncsn.errors import UserError
from pipeline.params import load, parse
from pipeline.params.kinds import plain
from pipeline.params.renamed import ANY, TABLE, Renamed, refusals
from pipeline.params.schema import extra_rows

CONF = Path(__file__).parents[1] / "conf"
SHIPPED = YAML(typ="safe").load(CONF / "digits.yaml")

KARRAS = {"num_levels": 6, "rho": 7.0}
PC = {
    "kind": "predictor_corrector",
    **KARRAS,
    "predictor": "ancestral",
    "corrector": "annealed",
    "corrector_steps": 1,
    "snr": 0.16,
}
CHURN = {
    "kind": "stochastic_heun",
    **KARRAS,
    "churn": 4.0,
    "churn_min": 0.1,
    "churn_max": 1.0,
    "churn_noise": 1.0,
}

Change = Callable[[dict[str, Any]], object]


def put(key: str, value: Any) -> Change:
    """Set a dotted key."""

    def change(raw: dict[str, Any]) -> None:
        *sections, last = key.split(".")
        for section in sections:
            raw = raw[section]
        raw[last] = value

    return change


def drop(key: str) -> Change:
    """Leave out a dotted key."""

    def change(raw: dict[str, Any]) -> None:
        *sections, last = key.split(".")
        for section in sections:
            raw = raw[section]
        del raw[last]

    return change


def rename_network(old: str, new: str) -> Change:
    """Call a network otherwise, everywhere."""

    def change(raw: dict[str, Any]) -> None:
        raw["networks"] = [new if network == old else network for network in raw["networks"]]
        raw["rows"] = {row: new if network == old else network for row, network in raw["rows"].items()}
        for section in ("recipes", "noise"):
            raw[section][new] = raw[section].pop(old)

    return change


def rename_row(old: str, new: str) -> Change:
    """Call a row otherwise, everywhere."""

    def change(raw: dict[str, Any]) -> None:
        raw["rows"] = {new if row == old else row: network for row, network in raw["rows"].items()}
        raw["sampler"][new] = raw["sampler"].pop(old)

    return change


def seeds(*some: int) -> Change:
    """Further training seeds, with the rows that the preset command writes."""

    def change(raw: dict[str, Any]) -> None:
        raw["extra_seeds"], raw["extra_rows"] = list(some), extra_rows(raw["rows"], list(some))

    return change


def both(*changes: Change) -> Change:
    def change(raw: dict[str, Any]) -> None:
        for one in changes:
            one(raw)

    return change


EDM = {"kind": "edm", "p_mean": -1.9, "p_std": 1.2}
CONTINUOUS = {"from": "tune_noise", "sigma_max": 40.0, "sigma_min": 0.001, "num_levels": 18}


def search_a_law(raw: dict[str, Any]) -> None:
    """As in the preset digits_continuous."""
    raw["noise"]["tuned"] = raw["noise"]["ncsnv2"]
    raw["noise"]["edm"], raw["tune_noise"]["network"] = CONTINUOUS, "edm"
    raw["tune_noise"]["starts"] = {"published": {"p_mean": -1.89, "p_std": 1.2}}


MISTAKES: dict[str, tuple[Change, str]] = {
    "unknown section": (put("extra", 1), "extra: unknown key"),
    "unknown key": (put("train.zzz", 1), "train.zzz: unknown key"),
    "misspelt key": (put("train.batchsize", 1), "train.batchsize: unknown key; did you mean batch_size?"),
    "misspelt in a kind": (
        put("noise.ncsn.sigmamax", 1.0),
        "noise.ncsn.sigmamax: unknown key; did you mean sigma_max",
    ),
    "missing key": (drop("train.steps"), "train.steps: is missing"),
    "missing section": (lambda raw: raw.pop("toy"), "toy: is missing"),
    "text for a number": (put("train.steps", "1000"), "train.steps: .* integer, found '1000'"),
    "fraction for a count": (put("train.steps", 1.5), "train.steps: .* integer, found 1.5"),
    "truth value for a number": (put("train.steps", True), "train.steps: .* integer, found True"),
    "number for a truth value": (put("recipes.ncsn.flip", 1), "recipes.ncsn.flip: .* boolean, found 1"),
    "one for a list": (put("networks", "ncsn"), "networks: .* list, found 'ncsn'"),
    "null for a number": (put("data.seed", None), "data.seed: .* integer, found None"),
    "snapshots of a fraction": (put("train.snapshot_every", 0.5), "train.snapshot_every: .* found 0.5"),
    "snapshots below none": (put("train.snapshot_every", -1), "train.snapshot_every: .* found -1"),
    "snapshots beyond the end": (
        put("train.snapshot_every", 601),
        r"snapshot_every \(601\) is above the 600 steps of recipes.ncsn: lower it, or set it to 0",
    ),
    "choice on one sample": (
        put("generate.selection.num_samples", 1),
        "generate.selection.num_samples: .* greater than or equal to 2, found 1",
    ),
    "choice without a seed": (
        lambda raw: raw["generate"]["selection"].pop("seed"),
        "selection.seed: is miss",
    ),
    "choice on the report's samples": (
        put("generate.selection.seed", 3000),
        r"generate.seed and generate.selection.seed \(3000\) both give 3000, .* must not share samples",
    ),
    "choice of a further seed on the report's": (
        both(seeds(2), put("generate.selection.seed", 2998)),
        r"generate.selection.seed \(2998\) both give 3000",
    ),
    "choice on a search's samples": (
        put("generate.selection.seed", 2001),
        r"tune_sampler.seed \(2001\) is generate.selection.seed: no two choices may share samples",
    ),
    "choice of a further seed on the frontier's": (
        both(seeds(7), put("generate.selection.seed", 3993)),
        r"frontier.seed \(4000\) is generate.selection.seed plus one of extra_seeds",
    ),
    "zero": (put("generate.num_samples", 0), "generate.num_samples: .* greater than or equal to 1, found 0"),
    "negative seed": (put("data.seed", -1), "data.seed: .*, found -1"),
    "not a number": (
        put("recipes.ncsn.optimizer.lr", float("nan")),
        "recipes.ncsn.optimizer.lr: lr is nan",
    ),
    "infinite": (put("noise.ncsn.sigma_max", float("inf")), "noise.ncsn.sigma_max: .* found inf"),
    "moving average of 1": (
        put("recipes.tuned.ema.rate", 1.0),
        "recipes.tuned.ema.rate: rate is 1.0: it must be at least 0 and below 1",
    ),
    "accuracy above 1": (
        put("features.min_accuracy", 95.0),
        r"features: min_accuracy \(95.0\) is no share: set it between 0 and 1",
    ),
    "unknown kind of noise": (
        put("noise.ncsn.kind", "linear"),
        "noise.ncsn: .*'linear'.*'geometric', 'continuous', 'analytic'",
    ),
    "noise of no kind": (drop("noise.ncsn.kind"), "noise.ncsn: needs a `kind`, or `from`"),
    "unknown search": (put("noise.ncsn", {"from": "tune_sampler"}), "noise.ncsn.from: .*'tune_noise'"),
    "half a range": (
        put("noise.ncsn", {"from": "tune_noise", "sigma_max": 4.0}),
        "noise.ncsn: give all of sigma_max, sigma_min and num_levels, or none",
    ),
    "unknown choice": (
        put("sampler.tuned.choose", "tuned"),
        "sampler.tuned.choose: .*'lowest_fid', 'fewest_nfe' or 'knee', found 'tuned'",
    ),
    "unknown sampler": (
        put("sampler.ncsn.kind", "leapfrog"),
        "sampler.ncsn.kind: 'leapfrog' is none of the samplers",
    ),
    "unknown optimiser": (
        put("recipes.ncsn.optimizer.kind", "sgd"),
        "recipes.ncsn.optimizer.kind: 'sgd' is none of the optimizers. Known: adam, ",
    ),
    "unknown network": (
        put("recipes.ncsn.network.kind", "resnet"),
        "recipes.ncsn.network.kind: 'resnet' is none .* Known: ncsn, ncsnv2, unet;",
    ),
    "ladder upside down": (
        put("noise.ncsn.sigma_min", 2.0),
        r"noise.ncsn: sigma_min \(2.0\) must be below sigma_max",
    ),
    "ladder of one sigma": (put("noise.ncsn.sigma_min", 1.0), r"noise.ncsn: sigma_min \(1.0\) must be below"),
    "one level": (put("noise.ncsn.num_levels", 1), "noise.ncsn.num_levels: .* found 1"),
    "batch not divisible": (
        put("train.batch_size", 129),
        r"train: batch_size \(129\) .* by micro_batches \(2\)",
    ),
    "shards not divisible": (
        put("compute.workers", 3),
        r"train.micro_batches \(2\) .* compute.workers \(3\)",
    ),
    "rungs not ascending": (
        put("tune_noise.rungs", [10, 10]),
        r"tune_noise.rungs: \[10, 10\] .* ascending",
    ),
    "bounds upside down": (
        put("tune_sampler.step_size_ratio", [5.0, 0.2]),
        r"tune_sampler: step_size_ratio .* \[lower, upper\]",
    ),
    "integer bounds upside down": (
        put("tune_sampler.steps_per_level", [9, 1]),
        "tune_sampler: steps_per_level",
    ),
    "one further seed": (put("tune_noise.repeats", 1), r"tune_noise: repeats \(1\) must be 0 or at least 2"),
    "algorithm unknown": (
        put("tune_sampler.algorithm", "pbt"),
        "tune_sampler.algorithm: .*'tpe' or 'random'",
    ),
    "population too small": (
        both(put("tune_noise.algorithm", "pbt"), put("tune_noise.num_trials", 3)),
        r"tune_noise: algorithm pbt needs 4 members, num_trials \(3\)",
    ),
    "population of a network of fixed levels": (
        both(
            put("tune_noise.algorithm", "pbt"),
            put("recipes.tuned.network.kind", "ncsn"),
        ),
        "tune_noise.algorithm is pbt, .* that of tuned, ncsn, has weights for each level: use tpe or random",
    ),
    "trial's batch not divisible": (
        put("tune_noise.micro_batches", 3),
        r"tune_noise: batch_size \(64\) must be divisible by micro_batches \(3\)",
    ),
    "trial's shards not divisible": (
        put("compute.workers_per_trial", 2),
        r"tune_noise.micro_batches \(1\) must be divisible by compute.workers_per_trial \(2\)",
    ),
    "no part of a GPU": (put("compute.gpus_per_trial", 0.0), "compute.gpus_per_trial: .* greater than 0"),
    "three bounds": (
        put("tune_noise.sigma_max_ratio", [0.1, 0.5, 1.0]),
        "tune_noise.sigma_max_ratio: .* 2 items",
    ),
    "network without a recipe": (
        put("networks", ["ncsn", "ncsnv2", "tuned", "edm", "mine"]),
        "network 'mine' has no entry in `recipes`: add recipes.mine",
    ),
    "network without noise": (
        put("networks", ["ncsn", "ncsnv2", "tuned", "edm", "mine"]),
        "network 'mine' has no entry in `noise`: add noise.mine",
    ),
    "searched network unknown": (put("tune_noise.network", "mine"), "'mine' has no entry in `recipes`"),
    "row without a sampler": (
        put("rows.mine", "ncsn"),
        "row 'mine' has no entry in `sampler`: add sampler.mine",
    ),
    "row on no network": (
        put("rows.edm", "mine"),
        r"rows.edm \('mine'\) is not in networks \['ncsn', 'ncsnv2', 'tuned', 'edm'\]: name one of them",
    ),
    "network twice": (
        put("networks", ["ncsn", "ncsnv2", "tuned", "edm", "ncsn"]),
        "networks: 'ncsn' is there twice",
    ),
    "network named as a path": (rename_network("ncsn", "../x"), r"network '\.\./x': rename it with letters"),
    "network of another alphabet": (
        rename_network("ncsn", "größe"),
        "network 'größe': rename it with letters",
    ),
    "row named as a path": (rename_row("ncsn", "../x"), r"row '\.\./x': rename it with letters"),
    "row of a metric's name": (rename_row("ncsn", "features"), "row 'features': rename it: .* files of that"),
    "network of a metric's name": (
        rename_network("ncsn", "train_tuned"),
        "network 'train_tuned': rename it: .* files",
    ),
    "noise that is searched for another network": (
        put("noise.ncsn", {"from": "tune_noise"}),
        "noise.ncsn is from tune_noise, which searches for the network 'tuned', not 'ncsn': make",
    ),
    "noise that is not searched": (
        put("tune_noise.num_trials", 0),
        "noise.tuned is from tune_noise, but tune_noise.num_trials is 0: raise it, or give noise.tuned",
    ),
    "sampler that is searched for another network": (
        put("sampler.ncsn", {"from": "tune_sampler", "choose": "lowest_fid"}),
        "sampler.ncsn is from tune_sampler, which searches for the network 'tuned', not 'ncsn': make",
    ),
    "sampler that is not searched": (
        put("tune_sampler.num_trials", 0),
        "sampler.tuned_fewest is from tune_sampler, but tune_sampler.num_trials is 0",
    ),
    "levels searched for a loss without any": (
        put("recipes.tuned.loss", EDM),
        "noise.tuned is from tune_noise, which finds p_mean and p_std for the loss of recipes.tuned, edm",
    ),
    "law searched for a loss of levels": (
        put("noise.tuned", CONTINUOUS),
        "noise.tuned is from tune_noise, which finds the levels for the loss of recipes.tuned, levels",
    ),
    "starting law of a loss of levels": (
        put("tune_noise.starts.mine", {"p_mean": -1.0, "p_std": 1.0}),
        "tune_noise.starts.mine: the loss of recipes.tuned is searched by sigma_max, sigma_min",
    ),
    "starting levels of a law": (
        both(search_a_law, put("tune_noise.starts.mine", {"sigma_max": 1.0, "sigma_min": 0.1, "num_levels": 2})),
        "tune_noise.starts.mine: the loss of recipes.edm is searched by p_mean and p_std: give these",
    ),
    "half a starting law": (
        both(search_a_law, put("tune_noise.starts.mine", {"p_mean": -1.0})),
        "tune_noise.starts.mine.p_std: is missing",
    ),
    "starting point of a result's name": (
        put("tune_noise.starts.tuned", {"sigma_max": 1.0, "sigma_min": 0.1, "num_levels": 2}),
        "starts.tuned: rename it",
    ),
    "fewer trials than laws to start from": (
        both(search_a_law, put("tune_noise.num_trials", 1)),
        r"tune_noise: num_trials \(1\) must be at least 2: .* analytic choice and from 1 in `starts`",
    ),
    "no evaluations for a law's samples": (
        both(search_a_law, put("tune_noise.max_nfe", 2)),
        r"tune_noise.max_nfe \(2\) must be at least 3: Heun",
    ),
    "bounds of p_mean upside down": (
        put("tune_noise.p_mean_shift", [1.0, -1.0]),
        r"tune_noise: p_mean_shift \(\[1.0, -1.0\]\) must be \[lower, upper\]",
    ),
    "p_std of no size": (
        put("tune_noise.p_std_ratio", [0.0, 1.0]),
        "tune_noise.p_std_ratio.0: .* greater than 0",
    ),
    "seed twice": (seeds(1, 1), r"extra_seeds \(\[1, 1\]\) repeats a seed"),
    "first seed again": (
        both(put("train.seed", 3), seeds(1, 3)),
        r"extra_seeds \(\[1, 3\]\) repeats a seed, or train.seed \(3\)",
    ),
    "seed of no other noise": (put("extra_seeds", [0]), r"extra_seeds.0: .* greater than or equal to 1"),
    "seed without its rows": (
        put("extra_seeds", [4]),
        r"extra_rows holds \[\], but .* write it by `.*.commands.preset --extra-seeds 4`",
    ),
    "rows of no seed": (
        both(seeds(4), put("extra_seeds", [])),
        r"extra_rows holds \['edm-4', .*`python -m pipeline.commands.preset --extra-seeds`",
    ),
    "further row on another network": (
        both(seeds(4), put("extra_rows.tuned-4.network", "ncsn-4")),
        "extra_rows holds .* write it by",
    ),
    "row named as one of another seed": (
        both(rename_row("ncsn_paper", "ncsn-4"), put("rows.ncsn-4", "ncsn"), seeds(4)),
        "'ncsn-4': rename it: a further seed's files have that name",
    ),
    "network named as one of another seed": (
        both(rename_network("ncsnv2", "ncsn-4"), seeds(4)),
        "'ncsn-4': rename it: a further seed's files have that name",
    ),
    "further seed's samples searched on": (
        both(put("generate.seed", 1990), seeds(1, 10)),
        r"tune_sampler.seed \(2000\) is generate.seed plus one of extra_seeds: selection and report",
    ),
    "noise range repeated with the report's samples": (
        both(put("tune_noise.repeats", 2), put("generate.seed", 1002)),
        r"tune_noise.seed \(1002\) is generate.seed: selection and report",
    ),
    "repeats with the report's samples": (
        put("generate.seed", 2002),
        r"tune_sampler.seed \(2002\) is generate.seed: selection and report",
    ),
    "baseline that is searched": (
        put("tune_sampler.baseline.sampler", {"from": "tune_sampler", "choose": "knee"}),
        "tune_sampler.baseline.sampler: ",
    ),
    "baseline on no network": (
        put("tune_sampler.baseline.network", "mine"),
        r"tune_sampler.baseline.network \('mine'\) is not in networks",
    ),
    "baseline of other levels on a network of fixed ones": (
        both(
            put("tune_sampler.baseline.network", "ncsn"),
            put("tune_sampler.baseline.sampler", {"kind": "heun", **KARRAS}),
        ),
        "tune_sampler.baseline is heun, which takes levels of its own",
    ),
    "sampler of other levels on a network of fixed ones": (
        put("sampler.ncsn", {"kind": "heun", **KARRAS}),
        "sampler.ncsn is heun, which takes levels of its own, but the network ncsn knows those",
    ),
    "trials of other levels on a network of fixed ones": (
        both(put("tune_noise.network", "ncsn"), put("tune_noise.sampler", {"kind": "heun", **KARRAS})),
        "tune_noise.sampler is heun, which takes levels of its own, but the network ncsn knows those",
    ),
    "budgets upside down": (put("tune_sampler.max_nfe", [106, 5]), r"max_nfe: \[106, 5\] .* strictly ascending"),
    "frontier's budgets upside down": (put("frontier.nfe", [35, 5]), r"frontier.nfe: \[35, 5\] .* ascending"),
    "budget of the frontier twice": (put("frontier.nfe", [5, 5, 9]), r"frontier.nfe: \[5, 5, 9\] .* ascending"),
    "kind searched twice": (put("tune_sampler.kinds", ["heun", "heun"]), "tune_sampler.kinds: 'heun' is there twice"),
    "sigma of the toy twice": (put("toy.losses.sigmas", [0.1, 0.0, 0.1]), "toy.losses.sigmas: 0.1 is there twice"),
    "no repeats of a searched noise can be that many": (
        put("tune_noise.repeats", 10**12),
        "tune_noise.repeats: .* less than or equal to 1000, found 1000000000000",
    ),
    "nor of a searched sampler": (put("tune_sampler.repeats", 10**12), "tune_sampler.repeats: .* equal to 1000, found"),
    "count beyond all means": (put("train.steps", 10**12), "train.steps: .* less than or equal to 1000000000, found"),
    "levels beyond all means": (
        put("noise.ncsn.num_levels", 10**6),
        "noise.ncsn.num_levels: .* equal to 100000, found",
    ),
    "levels of a sampler beyond all means": (
        put("sampler.edm.num_levels", 10**12),
        "sampler.edm.num_levels: must be below 2147483648, found 1000000000000",
    ),
    "samples beyond all means": (
        both(put("generate.num_samples", 10**6), put("generate.sample_sets", 1000)),
        r"generate: num_samples x sample_sets \(1000000000\) must be at most 100000000",
    ),
    "trials beyond all means": (
        put("tune_noise.num_trials", 10**12),
        "tune_noise.num_trials: .* equal to 1000000, found",
    ),
    "more networks than a table has": (
        put("networks", [f"n{n}" for n in range(1001)]),
        "networks: .* at most 1000 items",
    ),
    "samplers misspelt": (
        lambda raw: raw["sampler"].update(ncnsv2=raw["sampler"].pop("ncsnv2")),
        "row 'ncsnv2' has no entry in `sampler`: add sampler.ncsnv2",
    ),
    "no samplers": (put("sampler", {}), "row 'edm' has no entry in `sampler`: add sampler.edm"),
    "row named as an option": (
        both(put("rows", {"edm": "edm", "--help": "edm"}), put("sampler.--help", {"kind": "heun", "num_levels": 18})),
        "row '--help': rename it with letters, digits, - and _ alone, 64 at most, the first no -: it names files",
    ),
    "network of a long name": (rename_network("ncsn", "n" * 65), "network 'n{65}': rename it with letters"),
    "recipe named as a path": (
        lambda raw: raw["recipes"].update({"a/b": raw["recipes"]["edm"]}),
        "network 'a/b': rename it with letters",
    ),
    "starting point named as a path": (
        lambda raw: raw["tune_noise"]["starts"].update({"a/b": raw["tune_noise"]["starts"]["ncsn"]}),
        "start 'a/b': rename it with letters",
    ),
    "preset with a quote": (put("preset", "o'brien"), 'preset "o\'brien": rename it with letters'),
    "more than the budget": (
        put("tune_sampler.budget_share", [0.5, 1.5]),
        r"budget_share .* must be at most 1",
    ),
    "sampler that nobody knows": (put("tune_sampler.kinds", ["leapfrog"]), "tune_sampler.kinds.0"),
    "margin of a per cent sign": (put("report.margin", 10), "report.margin: .* less than 1"),
    "search on an untrained network": (
        put("tune_sampler.network", "mine"),
        r"tune_sampler.network \('mine'\) is not in networks .*: name one of them",
    ),
    "frontier of an untrained network": (
        put("frontier.network", "mine"),
        r"frontier.network \('mine'\) is not in networks .*: name one of them",
    ),
    "frontier of a network without its row": (
        both(rename_row("edm", "mine"), put("frontier.network", "edm")),
        r"frontier.network \('edm'\) has no row of the same name, .*: add `edm: edm` to rows",
    ),
    "frontier of a network of fixed levels": (
        put("frontier.network", "ncsn"),
        r"frontier.network \('ncsn'\) has the network ncsn, which knows its own levels only",
    ),
    "frontier on the report's samples": (
        put("frontier.seed", 3000),
        r"frontier.seed \(3000\) is generate.seed: selection and report must not share samples",
    ),
    "fewer trials than ladders to start from": (
        put("tune_noise.num_trials", 1),
        r"tune_noise: num_trials \(1\) must be at least 3",
    ),
    "KID of one image": (
        put("evaluate.kid_subset_size", 1),
        "evaluate.kid_subset_size: .*greater than or equal to 2, found 1",
    ),
    "images that cannot be halved": (
        put("data.image_size", 27),
        r"data.image_size \(27\) does not suit recipes.edm.network: .* divisible by 4(.|\n)*"
        r"recipes.ncsn.network: .* divisible by 2\.(.|\n)*stage toy, whose auto-encoder needs a multiple of 4",
    ),
    "images too small for a network": (
        put("data.image_size", 4),
        r"data.image_size \(4\) does not suit recipes.ncsn.network: .* at least 8",
    ),
    "a background of two colours": (put("data.background", [255, 255]), "data.background: .*at least 3"),
    "a background above 255": (put("data.background", [0, 0, 256]), "data.background.*: .*255, found 256"),
    "KID of more than the samples": (
        put("evaluate.kid_subset_size", 361),
        r"evaluate.kid_subset_size \(361\) needs 361 images, but generate.num_samples is 360",
    ),
    "KID of more than the held-out": (
        put("data.num_held_out", 179),
        r"evaluate.kid_subset_size \(180\) needs 180 images, but data.num_held_out is 179",
    ),
    "reference unknown": (
        put("evaluate.reference", "test"),
        "evaluate.reference: .*'train' or 'held_out', found 'test'",
    ),
    "KID of more than the held-out images that no search saw": (
        both(put("evaluate.reference", "held_out"), put("data.num_held_out", 359)),
        r"kid_subset_size \(180\) needs 180 images, but half of data.num_held_out, .* is 179: lower",
    ),
    "as many neighbours as samples": (
        put("evaluate.nearest_k", 360),
        r"evaluate.nearest_k \(360\) needs 361 images, but generate.num_samples is 360: lower it or raise",
    ),
    "Karras's exponent below 1": (
        put("sampler.edm.rho", 0.5),
        "sampler.edm.rho: rho is 0.5: it must be a number of at least 1",
    ),
    "levels above the training's": (
        put("sampler.edm.sigma_max", 80.0),
        "sampler.edm: the sampler's levels from sigma 80.0 to 0.0014 leave the range of the training, 40.0 to 0.001",
    ),
    "levels upside down": (
        both(put("sampler.edm.sigma_max", 0.01), put("sampler.edm.sigma_min", 0.1)),
        "sampler.edm.sigma_max: sigma_max is 0.01: it must be above sigma_min, 0.1",
    ),
    "levels that never end": (
        put("sampler.edm.sigma_min", 0.0),
        "sampler.edm.sigma_min: sigma_min is 0.0: it must be a number above 0",
    ),
    "levels of its own for Langevin dynamics": (
        put("sampler.ncsnv2.sigma_max", 0.5),
        "sampler.ncsnv2.sigma_max: sigma_max is not for langevin: it has the levels of the training",
    ),
    "frontier from the data": (
        put("frontier.stochastic_heun.start", "data"),
        "frontier: stochastic_heun: start is for rows: the frontier begins all kinds at noise",
    ),
    "unknown start": (put("sampler.edm.start", "noise"), "sampler.edm.start: .* 'data', found 'noise'"),
    "unknown convention": (
        put("sampler.ncsn.convention", "papers"),
        "sampler.ncsn.convention: .* 'paper' or 'released', found 'papers'",
    ),
    "unknown corrector": (
        put("sampler.edm", PC | {"corrector": "none"}),
        "sampler.edm.corrector: .* 'langevin' or 'annealed', found 'none'",
    ),
    "corrector without a step": (
        put("sampler.edm", PC | {"snr": 0.0}),
        "sampler.edm.snr: snr is 0.0: it must be between 0 and 1",
    ),
    "neither predictor nor corrector": (
        put("sampler.edm", PC | {"predictor": "none", "corrector_steps": 0}),
        "sampler.edm.corrector_steps: corrector_steps is 0: it must not be negative, nor 0 without",
    ),
    "churn upside down": (
        put("sampler.edm", CHURN | {"churn_min": 2.0}),
        "sampler.edm.churn_min: churn_min is 2.0: it must be between 0 and churn_max, 1.0",
    ),
    "no network": (put("networks", []), "networks: .* at least 1 item"),
    "no row": (put("rows", {}), "rows: .* at least 1 item"),
    "wrong GPU choice": (put("compute.use_gpu", "yes"), "compute.use_gpu.*: .* found 'yes'"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_told_with_its_key(case: str) -> None:
    change, message = MISTAKES[case]
    raw = copy.deepcopy(SHIPPED)
    parse(raw, "params.yaml")
    change(raw)
    with pytest.raises(UserError, match=message) as caught:
        parse(raw, "here.yaml")
    assert str(caught.value).startswith("here.yaml")


def test_all_mistakes_are_told_at_once() -> None:
    """Every mistake within a section, then (once the sections are right) every one between sections."""
    raw = copy.deepcopy(SHIPPED)
    inside = ["misspelt key", "missing section", "text for a number", "ladder upside down", "negative seed"]
    for case in inside:
        MISTAKES[case][0](raw)
    with pytest.raises(UserError) as caught:
        parse(raw, "params.yaml")
    lines = str(caught.value).splitlines()[1:]
    keys = ("train.batchsize", "toy", "train.steps", "noise.ncsn", "data.seed")
    assert len(lines) == len(keys)
    assert {line.split(":")[0].strip() for line in lines} == set(keys)

    raw = copy.deepcopy(SHIPPED)
    MISTAKES["network without a recipe"][0](raw)
    MISTAKES["shards not divisible"][0](raw)
    with pytest.raises(UserError) as caught:
        parse(raw, "params.yaml")
    assert len(str(caught.value).splitlines()[1:]) == 2 + 1, "no recipe and no noise; workers"


def search_nothing(raw: dict[str, Any]) -> None:
    raw["noise"]["tuned"] = raw["noise"]["ncsnv2"]
    raw["sampler"]["tuned"] = raw["sampler"]["tuned_fewest"] = raw["sampler"]["ncsnv2"]
    raw["tune_noise"]["num_trials"] = raw["tune_sampler"]["num_trials"] = 0


@pytest.mark.parametrize(
    "change",
    [
        rename_network("ncsn", "My-Network_2"),
        rename_row("ncsn", "My-Row_2"),
        seeds(4, 7),
        put("tune_noise.starts", {}),
        put("tune_sampler.baseline.network", "tuned"),
        put("evaluate.nearest_k", 359),
        put("evaluate.kid_subset_size", 360),
        put("data.num_held_out", 180),
        put("data.num_held_out", None),
        put("evaluate.reference", "held_out"),
        both(put("evaluate.reference", "held_out"), put("data.num_held_out", None)),
        put("tune_noise.num_trials", 3),
        search_nothing,
        search_a_law,
        both(search_a_law, put("tune_noise.algorithm", "pbt"), put("tune_noise.max_nfe", 3)),
        put("sampler.edm.rho", 1.0),
        put("sampler.edm", PC),
        put("sampler.edm", PC | {"corrector_steps": 0, "snr": 0.0}),
        put("sampler.edm", CHURN | {"churn_min": 1.0}),
    ],
)
def test_what_just_fits_is_accepted(change: Change) -> None:
    raw = copy.deepcopy(SHIPPED)
    change(raw)
    parse(raw, "params.yaml")


@pytest.mark.parametrize("raw", [None, [], "text", 3])
def test_a_file_that_is_no_mapping_is_told(raw: Any) -> None:
    with pytest.raises(UserError, match=r"here\.yaml"):
        parse(raw, "here.yaml")


def text_with(old: str, new: str) -> str:
    text = (CONF / "digits.yaml").read_text()
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize("number", ["1e-4", "1E-4", "1.0e-4", "0.0001", ".0001"])
def test_every_way_to_write_a_number_is_one(number: str, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(text_with("lr: 8.0e-3,", f"lr: {number},"))
    assert load(tmp_path / "p.yaml").recipes["ncsn"].optimizer.lr == 1e-4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", "is not valid YAML"),
        (b"a: 1\na: 2\n", "is not valid YAML"),
        (b"a: \xff\xfe\n", "is not valid YAML"),
        (b"", "valid dictionary"),
    ],
)
def test_a_broken_file_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path / "p.yaml")
    assert "p.yaml" in str(caught.value)


def test_of_very_many_mistakes_the_first_hundred_are_told() -> None:
    with pytest.raises(UserError) as caught:
        parse({**SHIPPED, **{f"key{n}": 1 for n in range(150)}}, "params.yaml")
    _, *lines, last = str(caught.value).splitlines()
    assert len(lines) == 100 and last == "  and 50 more"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml is missing"):
        load(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("key", ["data.source", "compute.storage", "compute.job_storage"])
def test_a_path_may_begin_at_home(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    raw, (section, name) = copy.deepcopy(SHIPPED), key.split(".")
    for given, found in (("~/x.npz", "/home/me/x.npz"), ("a/~", "a/~"), ("https://x/~me", "https://x/~me")):
        put(key, given)(raw)
        assert getattr(getattr(parse(raw, "params.yaml"), section), name) == found
    put(key, "~nobody-has-this-name/x")(raw)
    with pytest.raises(UserError, match=f"{key}: ~nobody-has-this-name/x: there is no such home folder"):
        parse(raw, "params.yaml")


def test_parameters_are_frozen_and_are_what_the_file_says() -> None:
    params = parse(SHIPPED, "params.yaml")
    assert params.kwargs() == SHIPPED
    assert params.train.kwargs() == SHIPPED["train"]
    with pytest.raises(ValidationError, match="frozen"):
        params.train.steps = 1  # type: ignore[misc]


@pytest.mark.parametrize("convention", ["paper", "released"])
def test_a_convention_is_an_option_of_the_sampler_only_where_it_is_given(convention: str) -> None:
    raw = copy.deepcopy(SHIPPED)
    assert "convention" not in plain(parse(raw, "params.yaml").sampler["ncsn"])
    put("sampler.ncsn.convention", convention)(raw)
    assert parse(raw, "params.yaml").sampler["ncsn"].convention == convention


def test_a_training_and_a_row_are_named_by_their_further_seed() -> None:
    raw = copy.deepcopy(SHIPPED)
    seeds(2, 5)(raw)
    params = parse(raw, "params.yaml")
    trained, rows = params.trainings(), params.all_rows()
    assert trained["tuned"] == ("tuned", 0) and trained["tuned-5"] == ("tuned", 5)
    assert list(trained)[:5] == ["ncsn", "ncsnv2", "tuned", "edm", "ncsn-2"] and len(trained) == 4 * 3
    assert rows["tuned_fewest"] == ("tuned_fewest", "tuned", 0)
    assert rows["tuned_fewest-5"] == ("tuned_fewest", "tuned-5", 5)
    assert {name: {"row": r.row, "network": r.network} for name, r in rows.items() if r.offset} == raw["extra_rows"]


def test_the_searches_behind_a_row_are_its_networks_and_its_own() -> None:
    raw = copy.deepcopy(SHIPPED)
    params = parse(raw, "params.yaml")
    assert params.searches("tuned_fewest") == ["tune_noise", "tune_sampler"] and params.searches("edm") == []
    raw["sampler"]["tuned"] = raw["sampler"]["ncsnv2"]
    assert parse(raw, "params.yaml").searches("tuned") == ["tune_noise"]


def test_the_papers_convention_is_a_sampler_of_the_released_one_s_network() -> None:
    for name in known(CONF):
        p = parse(YAML(typ="safe").load(compose(CONF, name)), name)
        ours = p.sampler["ncsn"]
        assert p.sampler["ncsn_paper"] == replace(ours, convention="paper")
        assert ours.convention == "released"


def with_key(key: str, value: Any) -> dict[str, Any]:
    """The shipped parameters with an old key, below an entry of any name where it has a *."""
    raw = copy.deepcopy(SHIPPED)
    *sections, last = key.replace("*", "ncsn").split(".")
    here = raw
    for section in sections:
        here = here[section]
    here[last] = value
    return raw


@pytest.mark.parametrize("entry", TABLE, ids=lambda entry: f"{entry.old}={entry.value!s:.9}")
def test_an_old_key_is_refused_with_the_new_one(entry: Renamed) -> None:
    value = {ANY: 1, str: "ncsnv2"}.get(entry.value, entry.value)
    with pytest.raises(UserError) as caught:
        parse(with_key(entry.old, value), "here.yaml")
    first, line = str(caught.value).splitlines()
    assert first == "here.yaml has old keys: rename these and run again:"
    assert line.startswith(f"  {entry.old.replace('*', 'ncsn')}: `") and line.endswith(f"is now {entry.new}")


def test_no_old_key_is_a_key_of_today() -> None:
    assert refusals(SHIPPED) == []


def test_the_file_of_version_1_is_refused_with_all_new_names() -> None:
    """The sections of params.yaml as they were, each once."""
    old = YAML(typ="safe").load("""
        variants: [ncsn]
        more_seeds: []
        data: {name: digits, held_out: 360}
        reference: {kind: classifier}
        noise: {ncsn: {rule: fixed, sigma_max: 1.0}, tuned: {rule: tuned}, edm: {rule: tuned_continuous}}
        tune_noise: {variant: tuned, microshards: 1, sigma_max: [0.15, 1.0], p_mean: [-1.0, 1.0]}
        train: {microshards: 2, determinism: elastic}
        recipes: {ncsn: {lr: 1.0, betas: [0.9, 0.99], adam_eps: 1.0e-8, ema_rate: 0.0}, b: {ema_rate: 0.9}}
        sampler: {n: {rule: fixed, step_lr: 2.0}, a: {rule: analytic}, f: {rule: fewest}, h: {rule: heun}}
        tune_sampler: {variant: tuned, baseline: ncsnv2, spent: [0.3, 1.0], step_lr: [0.7, 6.0]}
        generate: {sets: 1}
        frontier: {variant: edm}
        """)
    with pytest.raises(UserError) as caught:
        parse(old, "params.yaml")
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == 29
    for line in (
        "noise.edm.rule: `rule: tuned_continuous` is now `from: tune_noise` next to the range",
        "train.determinism: `elastic` is now `bitwise`",
        "recipes.ncsn.ema_rate: `ema_rate: 0` is now `ema: {kind: none}`",
        "recipes.b.ema_rate: `ema_rate` is now `ema: {kind: exponential, rate: ...}`",
        "sampler.f.rule: `rule: fewest` is now `from: tune_sampler` with `choose: fewest_nfe`",
        "sampler.h.rule: `rule` is now `kind`",
        "tune_sampler.baseline: `baseline` is now `{network: ..., sampler: {kind: ...}}`",
    ):
        assert f"  {line}" in lines
