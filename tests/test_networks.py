"""What the stages make of the name of a network or a row: its seed in training, its noise in sampling."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline.files import write_yaml
from pipeline.ncsn.kinds import make
from pipeline.ncsn.losses.edm import EDM
from pipeline.params import Params, parse
from pipeline.params.schema import extra_rows
from pipeline.training.task import Task
from stages import generate, train

SHIPPED = YAML(typ="safe").load(Path(__file__).parents[1] / "conf/digits.yaml")


@pytest.fixture
def params() -> Params:
    raw = copy.deepcopy(SHIPPED)
    raw["rows"]["ncsn_paper"] = "ncsn"
    raw |= {"extra_seeds": [3], "extra_rows": extra_rows(raw["rows"], [3])}
    raw["generate"] |= {"sample_sets": 4, "num_samples": 200, "seed": 3000}
    return parse(raw, "params.yaml")


def task(params: Params, network: str) -> Task:
    return train._task(params, network, np.zeros((4, 1, 8, 8), dtype=np.uint8))


@pytest.fixture
def noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for network in ("ncsn", "edm"):
        write_yaml(Path(f"artifacts/noise/{network}.yaml"), SHIPPED["noise"][network])


def test_a_further_seed_is_the_same_task_but_for_its_seed(params: Params, noise: None) -> None:
    first, second = task(params, "ncsn").plain(), task(params, "ncsn-3").plain()
    assert (first.pop("seed"), second.pop("seed")) == (0, 3) and first == second


def test_rows_of_one_network_need_one_training(params: Params) -> None:
    rows = params.all_rows()
    assert rows["ncsn_paper"].network == rows["ncsn"].network == "ncsn"
    assert rows["ncsn_paper-3"].network == rows["ncsn-3"].network == "ncsn-3"
    assert {row.network for row in rows.values()} == set(params.trainings())


def test_what_tune_noise_found_takes_the_place_of_the_recipes_law(params: Params, noise: None) -> None:
    recipes = task(params, "edm")
    assert recipes.loss == make("losses", SHIPPED["recipes"]["edm"]["loss"])
    levels = {key: SHIPPED["noise"]["edm"][key] for key in ("sigma_max", "sigma_min", "num_levels")}
    write_yaml(Path("artifacts/noise/edm.yaml"), {**levels, "p_mean": -1.25, "p_std": 0.75, "from": "tune_noise"})
    other = task(params, "edm")
    assert other.loss == EDM(p_mean=-1.25, p_std=0.75)
    assert other.plain() | {"loss": None} == recipes.plain() | {"loss": None}
    assert other.fingerprint() != recipes.fingerprint()


def test_sets_are_consecutive_samples_and_networks_share_no_noise(params: Params) -> None:
    one = params.model_copy(update={"generate": params.generate.model_copy(update={"sample_sets": 1})})
    few, many = generate._settings(one, 0), generate._settings(params, 0)
    expected: dict[str, Any] = few | {"num_samples": 800}
    assert many == expected and few["num_samples"] == 200, "the first set is what a single one would be"
    seeds = {generate._settings(params, found.offset)["seed"] for found in params.all_rows().values()}
    assert seeds == {3000, 3003}
