"""Features on GPUs, without one: what is asked of Ray, what is moved, and whose shards are whose."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from pipeline.cluster import connect
from pipeline.cluster.connect import UseGpu
from pipeline.generate.score import Scorer, scorer
from pipeline.metrics.fid import SHARD
from pipeline.ncsn.errors import UserError

IMAGES = np.zeros((SHARD + 1, 1, 2, 2), np.uint8)
SIZES: dict[str, Any] = {"workers": 1, "cpus_per_worker": 1}


@dataclass(frozen=True)
class Asked:
    """Its one feature is the number of GPUs that Ray lends its task; in this process 10 on cuda, 0 else."""

    device: str = "cpu"

    @property
    def name(self) -> str:
        return "asked"

    def on(self, device: str) -> "Asked":
        return replace(self, device=device)

    def features(self, images: np.ndarray) -> np.ndarray:
        remote = ray.is_initialized() and ray.get_runtime_context().get_task_id()
        found = len(ray.get_gpu_ids()) if remote else 10 * (self.device == "cuda")
        return np.full((len(images), 1), found, np.float32)

    def both(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.features(images), np.ones((len(images), 2), np.float32)


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def two_gpus(no_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which torch and Ray count two GPUs."""
    real = connect._initialise
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(connect, "_initialise", lambda **given: real(**given, num_gpus=2))


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(("use_gpu", "lent"), [("auto", 1), (False, 0)])
def test_a_task_of_ray_asks_for_a_gpu_where_they_are_used(use_gpu: UseGpu, lent: int, tmp_path: Path) -> None:
    with scorer(Asked(), tmp_path, **SIZES, use_gpu=use_gpu) as space:
        assert space.evaluator.device == ("cuda" if lent else "cpu")
        found, p = space.both(IMAGES)
        assert found.shape == (SHARD + 1, 1) and p.shape == (SHARD + 1, 2)
        assert set(found.flat) == {lent} and set(space.features(IMAGES[:5]).flat) == {lent}
        assert space.moments(IMAGES).mean.item() == lent
    assert not ray.is_initialized()


@pytest.fixture
def one_gpu(no_cluster: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    yield
    assert not ray.is_initialized(), "one GPU needs no Ray"


@pytest.mark.usefixtures("one_gpu")
@pytest.mark.parametrize(("use_gpu", "device"), [("auto", "cuda"), (True, "cuda"), (False, "cpu")])
def test_this_process_uses_its_gpu_as_told(use_gpu: UseGpu, device: str, tmp_path: Path) -> None:
    with scorer(Asked(), tmp_path, **SIZES, use_gpu=use_gpu) as space:
        assert space.evaluator.device == device
        assert set(space.features(IMAGES).flat) == {10 if device == "cuda" else 0}


@pytest.mark.usefixtures("no_cluster")
def test_a_gpu_that_is_missed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with (
        pytest.raises(UserError, match=r"compute\.use_gpu is true"),
        scorer(Asked(), tmp_path, **SIZES, use_gpu=True),
    ):
        pass
    with scorer(Asked(), tmp_path, **SIZES, use_gpu="auto") as space:
        assert space.evaluator.device == "cpu"


def test_shards_of_one_device_are_not_taken_for_anothers(tmp_path: Path) -> None:
    for device, value in (("cpu", 0), ("cuda", 10), ("cpu", 0)):
        left = Scorer(Asked(device), tmp_path)  # as if killed: its shards stay
        assert set(left.features(IMAGES).flat) == {value}
    assert len(list(tmp_path.glob("scores-*"))) == 2
