"""What MLflow's pages show of a row: its numbers and samples, on its runs and its model, which draws more of them."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mlflow.artifacts import download_artifacts
from PIL import Image

from pipeline.data.dataset import open_dataset
from pipeline.files import read_json
from pipeline.generate import served
from pipeline.generate.generate import generate
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.prior import Law
from pipeline.ncsn.sampler import Sampler
from pipeline.tracking.record import record_files
from pipeline.training.checkpoints import load_network
from stages import train

from .conftest import Place
from .test_no_result import V, evaluated, fit_here, small

LOAD = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('ray', 'dvc', 'optuna', 'matplotlib', 'stages'): raise ImportError('blocked: ' + name)
sys.meta_path.insert(0, Block())
import mlflow, numpy as np, torch
model = mlflow.pyfunc.load_model(sys.argv[1])
nothing = {'x': np.zeros((0, 1, 8, 8), np.float32), 'sigma': np.zeros(0, np.float32)}
np.save('same.npy', model.predict(nothing, params={'num_samples': 35}))
np.save('raw.npy', model.predict(nothing, params={'num_samples': 5, 'denoise': False}))
np.save('other.npy', model.predict(nothing, params={'num_samples': 5, 'seed': 1}))
x, sigma = np.full((2, 1, 8, 8), 0.5, np.float32), np.float32([1, 0.1])
network = model.get_raw_model()
assert isinstance(network, torch.nn.Module)
score = network(torch.from_numpy(x), torch.from_numpy(sigma)).numpy()
assert np.array_equal(model.predict({'x': x, 'sigma': sigma}), score)
"""


@pytest.fixture
def row(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A pipeline up to its evaluation."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(train, "fit", fit_here)
    evaluated(small(place.path, enabled=True))
    while record_files(place.path):  # a record is deleted once it is delivered
        time.sleep(0.05)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place.path}/mlflow.db")
    return place


def test_a_row_is_seen_on_its_runs_and_on_its_model(row: Place, tmp_path_factory: pytest.TempPathFactory) -> None:
    by_stage = {run.data.tags["stage"]: run for run in row.runs("stage")}
    shown = read_json(Path(f"artifacts/metrics/{V}.json"))
    assert shown.keys() == {"fid", "kid", "precision", "recall", "nfe"}
    for stage in ("generate", "evaluate"):
        run = by_stage[stage]
        assert run.data.metrics.items() >= shown.items()
        assert f"artifacts/samples/{V}/denoised.npy" in run.data.tags["mlflow.note.content"]
        picture = download_artifacts(run_id=run.info.run_id, artifact_path="samples.png")
        assert Path(picture).stat().st_size < 50_000
    names = [file.path for file in row.client.list_artifacts(by_stage["train"].info.run_id)]
    assert names == [f"{V}.csv"]

    (model,) = row.client.get_run(by_stage["evaluate"].info.run_id).inputs.model_inputs
    assert {m.key: m.value for m in row.client.get_logged_model(model.model_id).metrics} == shown
    newest, older = row.client.search_model_versions(f"name = 'ncsn-digits-{V}'", order_by=["version_number DESC"])
    assert newest.source == f"models:/{model.model_id}" and newest.run_id == by_stage["generate"].info.run_id
    assert older.run_id == by_stage["train"].info.run_id

    elsewhere = tmp_path_factory.mktemp("elsewhere")
    command = [sys.executable, "-c", LOAD, f"models:/ncsn-digits-{V}/{newest.version}"]
    done = subprocess.run(command, cwd=elsewhere, env=os.environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    drawn = {kind: np.load(f"artifacts/samples/{V}/{kind}.npy") for kind in ("raw", "denoised")}
    assert np.array_equal(np.load(elsewhere / "same.npy"), drawn["denoised"][:35])
    assert np.array_equal(np.load(elsewhere / "raw.npy"), drawn["raw"][:5])
    assert not np.array_equal(np.load(elsewhere / "other.npy"), drawn["denoised"][:5])

    alone = served._load_pyfunc(download_artifacts(f"models:/ncsn-digits-{V}/{older.version}"))
    with pytest.raises(UserError, match="ncsn-PRESET-ROW"):
        alone.predict({}, {"num_samples": 1})


def test_the_picture_is_of_the_first_samples(row: Place) -> None:
    (run,) = [run for run in row.runs("stage") if run.data.tags["stage"] == "generate"]
    path = download_artifacts(run_id=run.info.run_id, artifact_path="samples.png")
    pixels = np.asarray(Image.open(io.BytesIO(Path(path).read_bytes())))
    samples = np.load(f"artifacts/samples/{V}/denoised.npy")
    side, pitch = 48, 52  # 8 pixels times 6, and a gap of 4
    assert pixels.shape == (6 * pitch - 4, 10 * pitch - 4, 3)
    last = pixels[5 * pitch : 5 * pitch + side, 9 * pitch : 9 * pitch + side]
    assert np.array_equal(last[::6, ::6, 0], samples[59, 0]) and np.array_equal(last[5::6, 5::6, 2], samples[59, 0])


def test_a_sampler_that_starts_at_the_data_s_law_draws_from_the_model_alone(
    row: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, images = tmp_path_factory.mktemp("model"), Path("artifacts/data")
    network = load_network(Path(f"artifacts/models/{V}"))
    plain = {"kind": "heun", "sigma_max": 1.0, "sigma_min": 0.1, "num_levels": 3, "rho": 7.0, "start": "data"}
    settings = {"num_samples": 12, "shard_size": 8, "precision": "float32", "compile": False, "seed": 5}
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({**settings, "sample_sets": 1, "sampler": plain, "sha256": {}}))
    served.write_drawn(folder, manifest, (1, 8, 8), images)
    (folder / served.CHECKPOINT).symlink_to(Path(f"artifacts/models/{V}").absolute())
    made = served._load_pyfunc(str(folder)).predict({}, {"num_samples": 12})
    law = Law.of(open_dataset(images).split("train"))
    expected = generate(network, Sampler.read(plain), shape=(1, 8, 8), law=law, **settings)
    assert np.array_equal(made, expected.denoised)
