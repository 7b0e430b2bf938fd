"""What the stages make of a network's name: its seed in training, its noise in sampling."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline.files import write_yaml
from pipeline.params import Params, parse
from pipeline.training.task import Task
from stages import generate, train

SHIPPED = YAML(typ="safe").load(Path(__file__).parents[1] / "params.yaml")


@pytest.fixture
def params() -> Params:
    raw = copy.deepcopy(SHIPPED) | {"variants": ["ncsn", "ncsn_paper", "tuned"], "more_seeds": [3]}
    raw["frontier"]["variant"] = raw["tune_sampler"]["baseline"] = "tuned"
    raw["generate"] |= {"sets": 4, "num_samples": 200, "seed": 3000}
    return parse(raw, "params.yaml")


def task(params: Params, network: str) -> Task:
    return train._task(params, network, np.zeros((4, 1, 8, 8), dtype=np.uint8))


@pytest.fixture
def ladders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variant in ("ncsn", "ncsn_paper"):
        write_yaml(Path(f"artifacts/noise/{variant}.yaml"), SHIPPED["noise"][variant])


def test_a_further_seed_is_the_same_task_but_for_its_seed(params: Params, ladders: None) -> None:
    first, second = task(params, "ncsn").plain(), task(params, "ncsn-3").plain()
    assert (first.pop("seed"), second.pop("seed")) == (0, 3) and first == second


def test_the_papers_step_needs_no_training_of_its_own(params: Params, ladders: None) -> None:
    for seed in ("", "-3"):
        assert task(params, f"ncsn{seed}").fingerprint() == task(params, f"ncsn_paper{seed}").fingerprint()


def test_what_tune_noise_found_takes_the_place_of_the_recipes_law(params: Params, ladders: None) -> None:
    raw = params.kwargs() | {"variants": ["edm", "tuned"]}
    found = parse(raw, "params.yaml")
    write_yaml(Path("artifacts/noise/edm.yaml"), SHIPPED["noise"]["edm"])
    recipes = task(found, "edm")
    assert recipes.loss == SHIPPED["recipes"]["edm"]["loss"]
    tuned = {**SHIPPED["noise"]["edm"], "p_mean": -1.25, "p_std": 0.75, "rule": "tuned_continuous"}
    write_yaml(Path("artifacts/noise/edm.yaml"), tuned)
    other = task(found, "edm")
    assert other.loss == {"kind": "edm", "p_mean": -1.25, "p_std": 0.75}
    assert other.plain() | {"loss": None} == recipes.plain() | {"loss": None}
    assert other.fingerprint() != recipes.fingerprint()


def test_sets_are_consecutive_samples_and_networks_share_no_noise(params: Params) -> None:
    one = params.model_copy(update={"generate": params.generate.model_copy(update={"sets": 1})})
    few, many = generate._settings(one, 0), generate._settings(params, 0)
    expected: dict[str, Any] = few | {"num_samples": 800}
    assert many == expected and few["num_samples"] == 200, "the first set is what a single one would be"
    seeds = {generate._settings(params, found.offset)["seed"] for found in params.networks().values()}
    assert seeds == {3000, 3003}
