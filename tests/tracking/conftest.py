"""A pipeline in an empty folder, and its tracking store read back with MLflow itself."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from pipeline.params import Params, load
from pipeline.tracking import shipping

ROOT = Path(__file__).resolve().parents[2]
HEAD = """
import os, signal, sys, time
from pathlib import Path
from pipeline import params, tracking
p = params.load()
"""
DVC = """
import subprocess, sys
for name in "12":
    subprocess.run([sys.executable, "code.py", name])
"""


@dataclass
class Place:
    """A folder with the pipeline's two YAML files, the working folder of the test."""

    path: Path
    params: Params

    def run(self, code: str, *, under_dvc: bool = False) -> subprocess.CompletedProcess[str]:
        """Run code in a process of its own; or twice, as a child of one called dvc."""
        (self.path / "code.py").write_text(HEAD + code)
        (self.path / "dvc").write_text(DVC)
        command = [sys.executable, "dvc" if under_dvc else "code.py"]
        env = self.environment()
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
        assert shipping.ship(self.path) == []
        return done

    def environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(ROOT)}

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.path}/mlflow.db")

    def runs(self, level: str) -> list[Run]:
        """The runs of a level, oldest first."""
        experiment = self.client.get_experiment_by_name(self.params.tracking.experiment)
        terms = f"tags.`pipeline.level` = '{level}'"
        found = self.client.search_runs([experiment.experiment_id], terms, order_by=["attributes.start_time"])
        return list(found)


@pytest.fixture(autouse=True)
def delivered_by_a_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What stages of this very process record is delivered by a thread of it, which has imported mlflow."""
    stop, threads, follow = threading.Event(), dict[Path, threading.Thread](), shipping.follow

    def ensure(root: Path) -> bool:
        if root not in threads or not threads[root].is_alive():
            threads[root] = threading.Thread(target=follow, args=(root, stop))
            threads[root].start()
        return True

    for name, value in (shipping.QUIET | shipping.HASTE).items():  # a thread must not change them for the others
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(shipping, "ensure", ensure)
    yield
    stop.set()
    for thread in threads.values():
        thread.join()


@pytest.fixture(scope="session")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store, made once."""
    path = tmp_path_factory.mktemp("schema") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place without a store."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Place(tmp_path, load())


@pytest.fixture
def place(empty_place: Place, schema: Path) -> Iterator[Place]:
    """A place with an empty store."""
    shutil.copy(schema, empty_place.path)
    yield empty_place
