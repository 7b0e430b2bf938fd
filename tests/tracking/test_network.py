"""A logged network comes back from the registry as what it was, wherever it is loaded."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow.models import get_model_info

from pipeline import tracking
from pipeline.git import Commit
from pipeline.ncsn.averages.exponential import Exponential
from pipeline.ncsn.losses.levels import Levels
from pipeline.tracking import provenance
from pipeline.training import checkpoints
from pipeline.training.optimizers.adam import Adam
from pipeline.training.schedules.constant import Constant
from pipeline.training.state import fresh
from pipeline.training.task import Task

from .conftest import Place

LOAD = """
import sys
import mlflow, numpy as np
model = mlflow.pyfunc.load_model(sys.argv[1])
arrays = np.load('arrays.npz')
for size in (1, 5):
    np.save(f'score{size}.npy', model.predict({'x': arrays['x'][:size], 'sigma': arrays['sigma'][:size]}))
for wrong in ({'x': arrays['x']}, {'x': arrays['x'][:, :, :4], 'sigma': arrays['sigma']}):
    try:
        model.predict(wrong)
    except mlflow.exceptions.MlflowException:
        continue
    sys.exit('the signature let a wrong input through')
"""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint after one step of Adam, whose averaged weights are no longer the network's."""
    task = Task(
        network={"kind": "ncsnv2", "channels": 1, "image_size": 8, "width": 8, "sigmas": (1.0, 0.1, 0.01)},
        optimizer=Adam(1e-3, (0.9, 0.999), 1e-8), schedule=Constant(), ema=Exponential(0.9),
        dequantise=False, flip=False,
        steps=1, batch_size=4, micro_batches=4, checkpoint_every=1, log_every=1,
        loss=Levels(),
        seed=0, data_sha256="0" * 64,
    )  # fmt: skip
    made = fresh(task)
    made.network(torch.rand(4, 1, 8, 8), torch.full((4,), 0.1)).square().sum().backward()
    made.advance(1.0)
    checkpoints.save(tmp_path / "checkpoint", made)
    return tmp_path / "checkpoint"


def test_a_registered_network_gives_the_checkpoint_s_scores_at_any_batch_size(
    place: Place, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with tracking.stage("train", "tuned", place.params) as run:
        run.log_network(checkpoint, "ncsn-digits-tuned", (1, 8, 8))
    (version,) = place.client.search_model_versions("name = 'ncsn-digits-tuned'")
    assert (version.run_id, int(version.version)) == (run.id, 1)
    (output,) = place.client.get_run(str(run.id)).outputs.model_outputs
    assert version.source == f"models:/{output.model_id}"

    elsewhere = tmp_path_factory.mktemp("elsewhere")
    generator = np.random.default_rng(0)
    x, sigma = generator.random((5, 1, 8, 8), np.float32), np.float32([1.0, 0.5, 0.1, 0.03, 0.01])
    np.savez(elsewhere / "arrays.npz", x=x, sigma=sigma)
    env = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{place.path}/mlflow.db",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    command = [sys.executable, "-c", LOAD, "models:/ncsn-digits-tuned/1"]
    done = subprocess.run(command, cwd=elsewhere, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    network = checkpoints.load_network(checkpoint)
    for size in (1, 5):
        expected = network(torch.from_numpy(x[:size]), torch.from_numpy(sigma[:size])).numpy()
        np.testing.assert_allclose(np.load(elsewhere / f"score{size}.npy"), expected, rtol=1e-5, atol=1e-5)


def settled(run: tracking.Run) -> None:
    """Wait until all that the run was told has arrived: an answer comes in its turn."""
    run.tags_of(str(run.id))


def test_the_alias_stands_at_the_newest_version_of_the_very_checkpoint_that_was_reported(
    place: Place, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "commit", lambda: Commit("0123456789abcdef", dirty=True))
    name, other = "ncsn-digits-tuned", place.path / "other"
    shutil.copytree(checkpoint, other)
    (other / "manifest.json").write_text("{}")

    def found() -> tuple[dict[str, int], list[str]]:
        versions = place.client.search_model_versions(f"name = '{name}'", order_by=["version_number ASC"])
        aliases = place.client.get_registered_model(name).aliases
        return {alias: int(version) for alias, version in aliases.items()}, [str(v.description) for v in versions]

    with tracking.stage("train", "tuned", place.params) as run:
        for folder in (checkpoint, checkpoint, other):
            run.log_network(folder, name, (1, 8, 8))
        settled(run)
        plain = "ncsn-digits-tuned, commit 0123456789+dirty"
        assert found() == ({}, [plain] * 3)
        run.report_network(checkpoint, name, "FID 9.00")
        run.report_network(checkpoint, name, "FID 2.00")
        settled(run)
        assert found() == ({"reported": 2}, [plain, f"{plain}; FID 2.00", plain])
        run.report_network(other, name, "FID 3.00")
        (other / "manifest.json").write_text("{ }")
        run.report_network(other, name, "never registered")
        run.report_network(place.path / "absent", name, "not here")
        settled(run)
        assert found() == ({"reported": 3}, [plain, f"{plain}; FID 2.00", f"{plain}; FID 3.00"])


def test_the_signature_leaves_the_batch_open_and_nothing_is_pickled(
    place: Place, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracking.stage("train", "tuned", place.params) as run:
        run.log_network(checkpoint, "ncsn-digits-tuned", (1, 8, 8))
        run.log_network(checkpoint, "ncsn-digits-tuned", (1, 8, 8))
    assert len(place.client.search_model_versions("name = 'ncsn-digits-tuned'")) == 2
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place.path}/mlflow.db")
    signature = get_model_info("models:/ncsn-digits-tuned/2").signature.to_dict()
    inputs, (output,) = json.loads(signature["inputs"]), json.loads(signature["outputs"])
    assert [(i["name"], i["tensor-spec"]["shape"]) for i in inputs] == [("x", [-1, 1, 8, 8]), ("sigma", [-1])]
    assert output["tensor-spec"]["shape"] == [-1, 1, 8, 8]
    assert not [p for p in (place.path / "mlartifacts").rglob("*") if p.suffix in (".pkl", ".pt", ".pth", ".pyc")]
