"""A task's fingerprint: equal where the result must be equal, another one where it may differ."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import pipeline
from pipeline.ncsn.errors import UserError
from pipeline.training.task import Task, code_version, data_digest
from tests.training.tiny import make_images, make_task

NETWORK = make_task().network

CHANGES: dict[str, Any] = {
    "network": {**NETWORK, "width": 16},
    "loss": {"kind": "log_uniform"},
    "lr": 2e-3,
    "betas": (0.9, 0.99),
    "adam_eps": 1e-7,
    "ema_rate": 0.99,
    "dequantise": False,
    "flip": False,
    "steps": 9,
    "batch_size": 32,
    "microshards": 2,
    "determinism": "fast",
    "precision": "bfloat16",
    "compile": True,
    "log_every": 3,
    "seed": 1,
    "data_sha256": "1" * 64,
    "rollbacks": 1,
    "snapshot_every": 2,
    "code": "2" * 64,
}


@pytest.mark.parametrize("key", CHANGES)
def test_whatever_can_change_the_result_changes_the_fingerprint(key: str) -> None:
    assert make_task(**{key: CHANGES[key]}).fingerprint() != make_task().fingerprint()


def test_every_field_is_either_tried_above_or_only_observes() -> None:
    assert set(make_task().plain()) - set(CHANGES) == {"checkpoint_every"}
    assert make_task(checkpoint_every=7).fingerprint() == make_task().fingerprint()
    assert make_task(checkpoint_every=7, rollbacks=1).fingerprint() != make_task(rollbacks=1).fingerprint()


@pytest.mark.parametrize("sigmas", [(1.0, 0.5, 0.1, 0.021), (1.0, 0.5, 0.02), (1.0000001, 0.5, 0.1, 0.02)])
def test_the_ladder_is_part_of_it(sigmas: tuple[float, ...]) -> None:
    assert make_task(network={**NETWORK, "sigmas": sigmas}).fingerprint() != make_task().fingerprint()


def test_the_order_of_keys_is_not() -> None:
    turned = dict(reversed(NETWORK.items()))
    assert make_task(network=turned).fingerprint() == make_task().fingerprint()


def test_a_task_survives_json_whole(task: Task) -> None:
    again = Task.from_plain(json.loads(json.dumps(task.plain())))
    assert again == task
    assert again.fingerprint() == task.fingerprint()


def test_an_edit_of_the_training_code_makes_another_task_and_one_elsewhere_does_not(tmp_path: Path) -> None:
    package = tmp_path / "pipeline"
    source = Path(pipeline.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    assert code_version(package) == code_version()
    code_version.cache_clear()
    for place in ("ncsn/samplers/langevin.py", "data/catalogue.py", "tracking/recorder.py"):
        (package / place).write_text("# edited\n")
    assert code_version(package) == code_version(source)
    for place in ("training/loop.py", "ncsn/losses/denoising.py", "data/order.py", "ncsn/networks/blocks.py"):
        code_version.cache_clear()
        before = code_version(package)
        (package / place).write_text("# edited\n")
        code_version.cache_clear()
        assert code_version(package) != before, place


def test_the_digest_of_the_data_sees_a_pixel_and_the_order() -> None:
    images = make_images()
    other = images.copy()
    other[3, 0, 4, 5] ^= 1
    assert data_digest(images) == data_digest(images.copy())
    assert len({data_digest(images), data_digest(other), data_digest(images[::-1])}) == 3


def test_a_batch_that_does_not_divide_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"train.batch_size \(15\).*train.microshards \(4\)"):
        make_task(batch_size=15)


def test_a_network_without_ladder_is_refused() -> None:
    with pytest.raises(UserError, match="sigmas"):
        make_task(network={**NETWORK, "sigmas": ()})


def test_build_takes_the_sections_as_they_stand() -> None:
    task = make_task()
    recipe = {
        "network": {"kind": "ncsnv2", "width": 8},
        "loss": task.loss,
        "steps": None,
        "betas": [0.9, 0.999],
        **{key: getattr(task, key) for key in ("lr", "adam_eps", "ema_rate", "dequantise", "flip")},
    }
    keys = (
        *("steps", "batch_size", "microshards", "determinism", "precision", "compile"),
        *("checkpoint_every", "log_every", "seed"),
    )
    built = Task.build(
        recipe,
        {key: getattr(task, key) for key in keys},
        sigmas=torch.tensor(NETWORK["sigmas"], dtype=torch.float64),
        image_shape=(1, 8, 8),
        data_sha256=task.data_sha256,
    )
    assert built == task


def test_a_recipe_may_be_longer_or_shorter_than_the_rest() -> None:
    recipe = {
        "network": {"kind": "unet", "width": 8},
        "loss": {"kind": "levels"},
        "steps": 3,
        "betas": [0.9, 0.999],
    }
    recipe |= {"lr": 1e-3, "adam_eps": 1e-8, "ema_rate": 0.9, "dequantise": False, "flip": False}
    plain = make_task().plain()
    train = {key: plain[key] for key in ("batch_size", "microshards", "determinism", "precision", "compile")}
    train |= {"steps": 8, "checkpoint_every": 3, "log_every": 2, "seed": 0}
    sizes = {"sigmas": torch.tensor([1.0, 0.1]), "image_shape": (1, 8, 8), "data_sha256": ""}
    assert Task.build(recipe, train, **sizes).steps == 3
    assert Task.build(recipe | {"steps": None}, train, **sizes).steps == 8
