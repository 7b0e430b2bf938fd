"""params.yaml is strict: each kind of mistake is told with its key, and all of them at once."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from pipeline.commands.preset import compose, known
from pipeline.ncsn.errors import UserError
from pipeline.params import load, parse

CONF = Path(__file__).parents[1] / "conf"
SHIPPED = YAML(typ="safe").load(CONF / "digits.yaml")

KARRAS = {"num_levels": 6, "rho": 7.0}
PC = {
    "rule": "predictor_corrector",
    **KARRAS,
    "predictor": "ancestral",
    "corrector": "annealed",
    "corrector_steps": 1,
    "snr": 0.16,
}
CHURN = {
    "rule": "stochastic_heun",
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
    section, last = key.split(".")
    return lambda raw: raw[section].pop(last)


def rename(old: str, new: str) -> Change:
    """Call a variant otherwise, everywhere."""

    def change(raw: dict[str, Any]) -> None:
        raw["variants"] = [new if variant == old else variant for variant in raw["variants"]]
        for section in ("recipes", "noise", "sampler"):
            raw[section][new] = raw[section].pop(old)

    return change


def both(*changes: Change) -> Change:
    def change(raw: dict[str, Any]) -> None:
        for one in changes:
            one(raw)

    return change


EDM = {"kind": "edm", "p_mean": -1.9, "p_std": 1.2}
CONTINUOUS = {"rule": "tuned_continuous", "sigma_max": 40.0, "sigma_min": 0.001, "num_levels": 18}


def search_a_law(raw: dict[str, Any]) -> None:
    """As in the preset digits_continuous."""
    raw["noise"]["tuned"] = raw["noise"]["tuned_fewest"] = raw["noise"]["ncsnv2"]
    raw["noise"]["edm"], raw["tune_noise"]["variant"] = CONTINUOUS, "edm"


MISTAKES: dict[str, tuple[Change, str]] = {
    "unknown section": (put("extra", 1), "extra: unknown key"),
    "unknown key": (put("train.zzz", 1), "train.zzz: unknown key"),
    "misspelt key": (put("train.batchsize", 1), "train.batchsize: unknown key; did you mean batch_size?"),
    "misspelt in a rule": (
        put("noise.ncsn.sigmamax", 1.0),
        "noise.ncsn.sigmamax: unknown key; did you mean sigma_max",
    ),
    "missing key": (drop("train.steps"), "train.steps: is missing"),
    "missing section": (lambda raw: raw.pop("toy"), "toy: is missing"),
    "text for a number": (put("train.steps", "1000"), "train.steps: .* integer, found '1000'"),
    "fraction for a count": (put("train.steps", 1.5), "train.steps: .* integer, found 1.5"),
    "truth value for a number": (put("train.steps", True), "train.steps: .* integer, found True"),
    "number for a truth value": (put("recipes.ncsn.flip", 1), "recipes.ncsn.flip: .* boolean, found 1"),
    "one for a list": (put("variants", "ncsn"), "variants: .* list, found 'ncsn'"),
    "null for a number": (put("data.seed", None), "data.seed: .* integer, found None"),
    "snapshots of a fraction": (put("train.snapshot_every", 0.5), "train.snapshot_every: .* found 0.5"),
    "snapshots below none": (put("train.snapshot_every", -1), "train.snapshot_every: .* found -1"),
    "snapshots beyond the end": (
        put("train.snapshot_every", 371),
        r"snapshot_every \(371\) is above the 370 steps of recipes.ncsn: lower it, or set it to 0",
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
        both(put("more_seeds", [2]), put("generate.selection.seed", 2998)),
        r"generate.selection.seed \(2998\) both give 3000",
    ),
    "choice on a search's samples": (
        put("generate.selection.seed", 2001),
        r"tune_sampler.seed \(2001\) is generate.selection.seed: no two choices may share samples",
    ),
    "choice of a further seed on the frontier's": (
        both(put("more_seeds", [7]), put("generate.selection.seed", 3993)),
        r"frontier.seed \(4000\) is generate.selection.seed plus one of more_seeds",
    ),
    "zero": (put("generate.num_samples", 0), "generate.num_samples: .* greater than or equal to 1, found 0"),
    "negative seed": (put("data.seed", -1), "data.seed: .*, found -1"),
    "not a number": (put("recipes.ncsn.lr", float("nan")), "recipes.ncsn.lr: .* found nan"),
    "infinite": (put("noise.ncsn.sigma_max", float("inf")), "noise.ncsn.sigma_max: .* found inf"),
    "moving average of 1": (
        put("recipes.tuned.ema_rate", 1.0),
        "recipes.tuned.ema_rate: .* less than 1, found 1.0",
    ),
    "accuracy above 1": (put("reference.min_accuracy", 95.0), "reference.min_accuracy: .* found 95.0"),
    "unknown rule": (
        put("noise.ncsn.rule", "linear"),
        "noise.ncsn: .*'linear'.*'fixed', 'continuous', 'analytic', 'tuned'",
    ),
    "unknown network": (
        put("recipes.ncsn.network.kind", "resnet"),
        "recipes.ncsn.network: .*'resnet'.*'ncsn', 'ncsnv2', 'unet'",
    ),
    "ladder upside down": (
        put("noise.ncsn.sigma_min", 2.0),
        r"noise.ncsn: sigma_min \(2.0\) must be below sigma_max",
    ),
    "ladder of one sigma": (put("noise.ncsn.sigma_min", 1.0), r"noise.ncsn: sigma_min \(1.0\) must be below"),
    "one level": (put("noise.ncsn.num_levels", 1), "noise.ncsn.num_levels: .* found 1"),
    "batch not divisible": (
        put("train.batch_size", 129),
        r"train: batch_size \(129\) .* by microshards \(2\)",
    ),
    "shards not divisible": (put("compute.workers", 3), r"train.microshards \(2\) .* compute.workers \(3\)"),
    "rungs not ascending": (
        put("tune_noise.rungs", [10, 10]),
        r"tune_noise: rungs \(\[10, 10\]\) .* ascending",
    ),
    "bounds upside down": (
        put("tune_sampler.step_size", [5.0, 0.2]),
        r"tune_sampler: step_size .* \[lower, upper\]",
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
            put("recipes.tuned_fewest.network.kind", "ncsn"),
        ),
        "tune_noise.algorithm is pbt, .* that of tuned, ncsn, has weights for each level: use tpe or random",
    ),
    "trial's batch not divisible": (
        put("tune_noise.microshards", 3),
        r"tune_noise: batch_size \(64\) must be divisible by microshards \(3\)",
    ),
    "trial's shards not divisible": (
        put("compute.workers_per_trial", 2),
        r"tune_noise.microshards \(1\) must be divisible by compute.workers_per_trial \(2\)",
    ),
    "no part of a GPU": (put("compute.gpus_per_trial", 0.0), "compute.gpus_per_trial: .* greater than 0"),
    "three bounds": (put("tune_noise.sigma_max", [0.1, 0.5, 1.0]), "tune_noise.sigma_max: .* 2 items"),
    "variant without a recipe": (
        put("variants", ["ncsn", "mine"]),
        "variant 'mine' has no entry in `recipes`",
    ),
    "tuned variant unknown": (put("tune_noise.variant", "mine"), "variant 'mine' has no entry in `noise`"),
    "variant twice": (put("variants", ["ncsn", "tuned", "ncsn"]), "variants: 'ncsn' stands there twice"),
    "variant named as a path": (rename("ncsn", "../x"), r"variant '\.\./x': rename it with letters"),
    "variant of another alphabet": (rename("ncsn", "größe"), "variant 'größe': rename it with letters"),
    "ladder of a searched file's name": (
        rename("ncsn", "best"),
        "variant 'best': rename it: .* files of that",
    ),
    "variant of a metric's name": (
        rename("ncsn", "train_tuned"),
        "variant 'train_tuned': rename it: .* files",
    ),
    "tuned ladder nobody searches": (
        put("noise.ncsn", {"rule": "tuned"}),
        "noise.ncsn.rule is tuned, but tune_noise.variant is 'tuned': make them agree",
    ),
    "tuned sampler nobody searches": (
        put("sampler.ncsn", {"rule": "tuned"}),
        "sampler.ncsn.rule is tuned, but tune_sampler.variant is 'tuned': make them agree",
    ),
    "ladder searched for a loss without one": (
        both(put("recipes.tuned.loss", EDM), put("recipes.tuned_fewest.loss", EDM)),
        "noise.tuned.rule is tuned, but recipes.tuned.loss.kind is edm, which has no ladder: use tuned_",
    ),
    "law searched for a loss of levels": (
        both(put("noise.tuned", CONTINUOUS), put("noise.tuned_fewest", CONTINUOUS)),
        "noise.tuned.rule is tuned_continuous, but recipes.tuned.loss.kind is levels, .*: use the loss edm",
    ),
    "law that nobody searches": (
        put("noise.edm", CONTINUOUS),
        "noise.edm.rule is tuned_continuous, but tune_noise.variant is 'tuned': make them agree",
    ),
    "ladder nobody searches where a law is searched": (
        both(put("noise.edm", CONTINUOUS), put("tune_noise.variant", "edm")),
        "noise.tuned.rule is tuned, but tune_noise.variant is 'edm': make them agree",
    ),
    "law without a range to sample on": (
        put("noise.edm", {"rule": "tuned_continuous", "sigma_max": 40.0}),
        "noise.edm.sigma_min: .*missing",
    ),
    "fewer trials than laws to start from": (
        both(search_a_law, put("tune_noise.num_trials", 1)),
        r"tune_noise.num_trials \(1\) must be at least 2: .* analytic p_mean and p_std",
    ),
    "no evaluations for a law's samples": (
        both(search_a_law, put("tune_noise.max_nfe", 2)),
        r"tune_noise.max_nfe \(2\) must be at least 3: Heun",
    ),
    "bounds of p_mean upside down": (
        put("tune_noise.p_mean", [1.0, -1.0]),
        r"tune_noise: p_mean \(\[1.0, -1.0\]\) must be \[lower, upper\]",
    ),
    "p_std of no size": (put("tune_noise.p_std", [0.0, 1.0]), "tune_noise.p_std.0: .* greater than 0"),
    "seed twice": (put("more_seeds", [1, 1]), r"more_seeds \(\[1, 1\]\) repeats a seed"),
    "first seed again": (
        both(put("train.seed", 3), put("more_seeds", [1, 3])),
        r"more_seeds \(\[1, 3\]\) repeats a seed, or train.seed \(3\)",
    ),
    "seed of no other noise": (put("more_seeds", [0]), r"more_seeds.0: .* greater than or equal to 1"),
    "variant named as a network of another seed": (
        both(rename("ncsnv2", "ncsn-4"), put("more_seeds", [4])),
        "variant 'ncsn-4': rename it: a further seed's files have that name",
    ),
    "further seed's samples searched on": (
        both(put("generate.seed", 1990), put("more_seeds", [1, 10])),
        r"tune_sampler.seed \(2000\) is generate.seed plus one of more_seeds: selection and report",
    ),
    "noise range repeated with the report's samples": (
        both(put("tune_noise.repeats", 2), put("generate.seed", 1002)),
        r"tune_noise.seed \(1002\) is generate.seed: selection and report",
    ),
    "repeats with the report's samples": (
        put("generate.seed", 2002),
        r"tune_sampler.seed \(2002\) is generate.seed: selection and report",
    ),
    "published sampler that is searched": (
        both(put("sampler.ncsnv2", {"rule": "fewest"}), put("recipes.ncsnv2.lr", 2.0e-3)),
        r"tune_sampler.baseline \('ncsnv2'\) must be one of variants",
    ),
    "another network's cheapest sampler": (
        put("sampler.edm", {"rule": "fewest"}),
        "sampler.edm.rule is fewest, but tune_sampler.variant is 'tuned': make them agree",
    ),
    "budgets upside down": (put("tune_sampler.max_nfe", [106, 5]), "max_nfe .* strictly ascending"),
    "more than the budget": (put("tune_sampler.spent", [0.5, 1.5]), r"spent .* must be at most 1"),
    "sampler that nobody knows": (put("tune_sampler.kinds", ["leapfrog"]), "tune_sampler.kinds.0"),
    "margin of a per cent sign": (put("report.margin", 10), "report.margin: .* less than 1"),
    "sampler of an untrained network": (
        put("variants", ["ncsn", "ncsnv2"]),
        r"tune_sampler.variant \('tuned'\) is not in variants .*: add it there",
    ),
    "frontier of an untrained network": (
        put("frontier.variant", "mine"),
        r"frontier.variant \('mine'\) is not in variants .*: name one of them",
    ),
    "frontier of a network of fixed levels": (
        put("frontier.variant", "ncsn"),
        r"frontier.variant \('ncsn'\) has the network ncsn, which knows its own levels only",
    ),
    "frontier on the report's samples": (
        put("frontier.seed", 3000),
        r"frontier.seed \(3000\) is generate.seed: selection and report must not share samples",
    ),
    "fewer trials than ladders to start from": (
        put("tune_noise.num_trials", 1),
        r"tune_noise.num_trials \(1\) must be at least 2",
    ),
    "KID of more than the samples": (
        put("evaluate.kid_subset_size", 361),
        r"evaluate.kid_subset_size \(361\) needs 361 images, but generate.num_samples is 360",
    ),
    "KID of more than the held-out": (
        put("data.held_out", 179),
        r"evaluate.kid_subset_size \(180\) needs 180 images, but data.held_out is 179",
    ),
    "reference unknown": (
        put("evaluate.reference", "test"),
        "evaluate.reference: .*'train' or 'held_out', found 'test'",
    ),
    "KID of more than the held-out images that no search saw": (
        both(put("evaluate.reference", "held_out"), put("data.held_out", 359)),
        r"kid_subset_size \(180\) needs 180 images, but half of data.held_out, .* is 179: lower",
    ),
    "as many neighbours as samples": (
        put("evaluate.nearest_k", 360),
        r"evaluate.nearest_k \(360\) needs 361 images, but generate.num_samples is 360: lower it or raise",
    ),
    "Karras's exponent below 1": (put("sampler.edm.rho", 0.5), "sampler.edm.rho: .* equal to 1, found 0.5"),
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
        r"sampler.edm: snr \(0\) must be above 0 for corrector_steps \(1\)",
    ),
    "neither predictor nor corrector": (
        put("sampler.edm", PC | {"predictor": "none", "corrector_steps": 0}),
        r"sampler.edm: corrector_steps \(0\) must be at least 1 where predictor is none",
    ),
    "churn upside down": (
        put("sampler.edm", CHURN | {"churn_min": 2.0}),
        r"sampler.edm: churn_min \(2.0\) must not be above churn_max \(1.0\)",
    ),
    "no variant": (put("variants", []), "variants: .* at least 1 item"),
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
    keys = ("train.batchsize", "toy", "train.steps", "noise.ncsn", "noise.ncsn_paper", "data.seed")
    assert len(lines) == len(keys), "the alias of a mistake is one too"
    assert {line.split(":")[0].strip() for line in lines} == set(keys)

    raw = copy.deepcopy(SHIPPED)
    MISTAKES["variant without a recipe"][0](raw)
    MISTAKES["shards not divisible"][0](raw)
    with pytest.raises(UserError) as caught:
        parse(raw, "params.yaml")
    assert len(str(caught.value).splitlines()[1:]) == 3 + 1 + 1 + 1 + 1, (
        "no entries; tuned, ncsnv2 and edm are not trained; workers"
    )


def search_nothing(raw: dict[str, Any]) -> None:
    raw["noise"]["tuned"] = raw["noise"]["tuned_fewest"] = raw["noise"]["ncsnv2"]
    raw["tune_noise"]["num_trials"] = 1


@pytest.mark.parametrize(
    "change",
    [
        rename("ncsn", "My-Variant_2"),
        put("evaluate.nearest_k", 359),
        put("evaluate.kid_subset_size", 360),
        put("data.held_out", 180),
        put("data.held_out", None),
        put("evaluate.reference", "held_out"),
        both(put("evaluate.reference", "held_out"), put("data.held_out", None)),
        put("tune_noise.num_trials", 2),
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
    (tmp_path / "p.yaml").write_text(text_with("lr: 1.0e-3", f"lr: {number}"))
    assert load(tmp_path / "p.yaml").recipes["ncsn"].lr == 1e-4


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


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml is missing"):
        load(tmp_path / "nowhere.yaml")


def test_parameters_are_frozen_and_are_what_the_file_says() -> None:
    params = parse(SHIPPED, "params.yaml")
    assert params.kwargs() == SHIPPED
    assert params.train.kwargs() == SHIPPED["train"]
    with pytest.raises(ValidationError, match="frozen"):
        params.train.steps = 1  # type: ignore[misc]


@pytest.mark.parametrize("convention", ["paper", "released"])
def test_a_convention_is_an_option_of_the_sampler_only_where_it_is_given(convention: str) -> None:
    raw = copy.deepcopy(SHIPPED)
    assert "convention" not in parse(raw, "params.yaml").sampler["ncsn"].kwargs()
    put("sampler.ncsn.convention", convention)(raw)
    assert parse(raw, "params.yaml").sampler["ncsn"].kwargs()["convention"] == convention


def test_a_network_is_named_by_its_variant_and_further_seed() -> None:
    raw = copy.deepcopy(SHIPPED) | {"variants": ["ncsn", "tuned"], "more_seeds": [2, 5]}
    raw["frontier"]["variant"] = raw["tune_sampler"]["baseline"] = "tuned"
    found = parse(raw, "params.yaml").networks()
    assert found["tuned"] == ("tuned", 0, 0) and found["tuned-5"] == ("tuned", 5, 5)
    assert list(found) == ["ncsn", "tuned", "ncsn-2", "ncsn-5", "tuned-2", "tuned-5"]


def test_the_papers_step_is_taken_by_the_network_of_the_released_one() -> None:
    for name in known(CONF):
        p = parse(YAML(typ="safe").load(compose(CONF, name)), name)
        assert (p.recipes["ncsn_paper"], p.noise["ncsn_paper"]) == (p.recipes["ncsn"], p.noise["ncsn"])
        ours = p.sampler["ncsn"].kwargs()
        assert p.sampler["ncsn_paper"].kwargs() == ours | {"convention": "paper"}
        assert ours.get("convention", "released") == "released"
