"""A task's fingerprint: equal where the weights must be equal, another one where they may differ."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import program
from pipeline.ncsn.averages.exponential import Exponential
from pipeline.ncsn.averages.none import NoAverage
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.losses.levels import Levels
from pipeline.ncsn.losses.log_uniform import LogUniform
from pipeline.ncsn.networks.ncsnv2 import NCSNv2Settings
from pipeline.training.optimizers import Optimizer
from pipeline.training.optimizers.adam import Adam
from pipeline.training.optimizers.adamw import AdamW
from pipeline.training.schedules.constant import Constant
from pipeline.training.schedules.cosine import Cosine
from pipeline.training.schedules.warmup import Warmup
from pipeline.training.task import Task, code_version, data_digest
from tests.training.tiny import make_images, make_task

ROOT = Path(__file__).parents[2]
NETWORK = make_task().network
CHANGES: dict[str, Any] = {
    "network": {**NETWORK, "width": 16},
    "loss": LogUniform(),
    "optimizer": Adam(2e-3, (0.9, 0.999), 1e-8),
    "schedule": Warmup(2),
    "ema": Exponential(0.99),
    "dequantise": False,
    "flip": False,
    "batch_size": 32,
    "micro_batches": 2,
    "determinism": "fast",
    "precision": "bfloat16",
    "compile": True,
    "seed": 1,
    "data_sha256": "1" * 64,
    "rollbacks": 1,
    "code": "2" * 64,
}
OBSERVERS: dict[str, Any] = {"checkpoint_every": 7, "log_every": 3, "snapshot_every": 2, "steps": 9}


@pytest.mark.parametrize("key", CHANGES)
def test_whatever_can_change_the_weights_changes_the_fingerprint(key: str) -> None:
    assert make_task(**{key: CHANGES[key]}).fingerprint() != make_task().fingerprint()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimizer", Adam(1e-3, (0.9, 0.99), 1e-8)),
        ("optimizer", Adam(1e-3, (0.9, 0.999), 1e-7)),
        ("optimizer", AdamW(1e-3, (0.9, 0.999), 1e-8, 0.0)),
        ("ema", NoAverage()),
    ],
)
def test_every_setting_of_a_kind_is_part_of_it(key: str, value: Any) -> None:
    assert make_task(**{key: value}).fingerprint() != make_task().fingerprint()


def test_every_field_is_tried_above_or_only_observes() -> None:
    assert set(make_task().plain()) - set(CHANGES) == set(OBSERVERS)
    for key, value in OBSERVERS.items():
        assert make_task(**{key: value}).fingerprint() == make_task().fingerprint(), key


def test_with_rollbacks_checkpoints_and_steps_are_part_of_it() -> None:
    for key, value in OBSERVERS.items():
        same = make_task(rollbacks=1, **{key: value}).fingerprint() == make_task(rollbacks=1).fingerprint()
        assert same == (key in ("log_every", "snapshot_every")), key


def test_steps_are_part_of_it_where_the_schedule_depends_on_them() -> None:
    for schedule in (Constant(), Warmup(2), Cosine(0, 0.0)):
        short, long = (make_task(schedule=schedule, steps=steps) for steps in (4, 8))
        assert (short.fingerprint() == long.fingerprint()) == (not schedule.needs_steps)


@pytest.mark.parametrize("sigmas", [(1.0, 0.5, 0.1, 0.021), (1.0, 0.5, 0.02), (1.0000001, 0.5, 0.1, 0.02)])
def test_the_ladder_is_part_of_it(sigmas: tuple[float, ...]) -> None:
    assert make_task(network={**NETWORK, "sigmas": sigmas}).fingerprint() != make_task().fingerprint()


def test_the_order_of_keys_is_not() -> None:
    turned = dict(reversed(NETWORK.items()))
    assert make_task(network=turned).fingerprint() == make_task().fingerprint()


def test_a_task_survives_json_whole(task: Task) -> None:
    assert json.loads(json.dumps(task.plain())) == task.plain()


def test_its_code_is_that_of_training_and_of_its_own_kinds() -> None:
    assert make_task().code == make_task(lr=2e-3).code != make_task(schedule=Warmup(2)).code
    unet = {**NETWORK, "kind": "unet"}
    assert make_task().code != make_task(network=unet).code == code_version(make_task(network=unet))
    assert code_version({"network": unet}) == program.version("pipeline.training.fit", "pipeline.ncsn.networks.unet")


def test_the_digest_of_the_data_sees_a_pixel_and_the_order() -> None:
    images = make_images()
    other = images.copy()
    other[3, 0, 4, 5] ^= 1
    assert data_digest(images) == data_digest(images.copy())
    assert len({data_digest(images), data_digest(other), data_digest(images[::-1])}) == 3


def test_a_batch_that_does_not_divide_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"train.batch_size \(15\).*train.micro_batches \(4\)"):
        make_task(batch_size=15)


def test_a_network_without_ladder_is_refused() -> None:
    with pytest.raises(UserError, match="sigmas"):
        make_task(network={**NETWORK, "sigmas": ()})


@dataclass(frozen=True)
class Recipe:
    """A section `recipes.NETWORK`, as `Task.build` takes it."""

    network: NCSNv2Settings
    loss: Levels
    optimizer: Optimizer
    schedule: Constant
    ema: Exponential
    steps: int | None
    dequantise: bool
    flip: bool


def test_build_takes_the_sections_as_they_are() -> None:
    task = make_task()
    own = {key: getattr(task, key) for key in ("loss", "optimizer", "schedule", "ema", "dequantise", "flip")}
    recipe = Recipe(NCSNv2Settings(width=8), steps=None, **own)
    sizes: dict[str, Any] = {
        "sigmas": torch.tensor(NETWORK["sigmas"], dtype=torch.float64),
        "image_shape": (1, 8, 8),
        "data_sha256": task.data_sha256,
    }
    assert Task.build(recipe, task, **sizes) == task
    assert Task.build(replace(recipe, steps=3), task, **sizes).steps == 3
