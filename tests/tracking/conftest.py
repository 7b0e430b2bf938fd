"""A pipeline in an empty folder, and its tracking store read back with MLflow itself."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from pipeline.params import Params, load

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
        return subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=120)

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
