"""params.yaml is strict: each kind of mistake is told with its key, and all of them at once."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from pipeline.errors import UserError
from pipeline.params import load, parse

CONF = Path(__file__).parents[1] / "conf"
SHIPPED = YAML(typ="safe").load(CONF / "digits.yaml")

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
        "noise.ncsn: .*'linear'.*'fixed', 'analytic', 'tuned'",
    ),
    "unknown network": (
        put("recipes.ncsn.network.kind", "unet"),
        "recipes.ncsn.network.kind: .* found 'unet'",
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
        put("tune_sampler.step_lr", [5.0, 0.2]),
        r"tune_sampler: step_lr .* \[lower, upper\]",
    ),
    "integer bounds upside down": (
        put("tune_sampler.steps_per_level", [9, 1]),
        "tune_sampler: steps_per_level",
    ),
    "three bounds": (put("tune_noise.sigma_max", [0.1, 0.5, 1.0]), "tune_noise.sigma_max: .* 2 items"),
    "variant without a recipe": (
        put("variants", ["ncsn", "mine"]),
        "variant 'mine' has no entry in `recipes`",
    ),
    "tuned variant unknown": (put("tune_noise.variant", "mine"), "variant 'mine' has no entry in `noise`"),
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
    assert len(lines) == len(inside)
    keys = ("train.batchsize", "toy", "train.steps", "noise.ncsn", "data.seed")
    assert {line.split(":")[0].strip() for line in lines} == set(keys)

    raw = copy.deepcopy(SHIPPED)
    MISTAKES["variant without a recipe"][0](raw)
    MISTAKES["shards not divisible"][0](raw)
    with pytest.raises(UserError) as caught:
        parse(raw, "params.yaml")
    assert len(str(caught.value).splitlines()[1:]) == 4


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
    assert params.model_dump() == SHIPPED
    assert params.train.kwargs() == SHIPPED["train"]
    with pytest.raises(ValidationError, match="frozen"):
        params.train.steps = 1  # type: ignore[misc]
