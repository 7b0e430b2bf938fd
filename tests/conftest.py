"""What all tests share: one thread of torch each, and no test that a slow machine fails."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

from pipeline.cluster.connect import connect
from tests.cluster import heads

os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's processes yield to all that runs beside them

torch.set_num_threads(1)
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by marks
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """A test that asks for one of the real Rays is marked `ray`."""
    for item in items:
        if {"local_ray", "four_cpus", "two_gpus", "head"} & set(item.fixturenames):
            item.add_marker("ray")


@pytest.fixture
def extensions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder `extensions` outside the package. All of it is forgotten: the path of a package in it, once
    imported, stays where no other folder has its name."""
    folder = tmp_path / "extensions"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "extensions"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """Two CPUs of Ray on this machine, started once for the tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with connect(workers=2, cpus_per_worker=1, use_gpu=False):
            yield


@pytest.fixture(scope="module")
def head() -> Iterator[heads.Head]:
    """A real head with two CPUs and its dashboard, with a session folder and processes of its own."""
    with heads.started() as made:
        yield made
