"""A pipeline whose checkpoint was chosen: all that follows is of that network, in the registry too."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.files import read_json, sha256
from pipeline.generate import generate as sample
from pipeline.generate import select_checkpoint
from pipeline.ncsn.sampler import Sampler
from pipeline.params import Params
from pipeline.training.checkpoints import load_network
from stages import (
    evaluate,
    features,
    frontier,
    generate,
    prepare,
    settle_noise,
    settle_sampler,
    train,
    tune_noise,
    tune_sampler,
)

from .conftest import Place
from .test_no_result import SMALL, V, fit_here, small

CHOSEN = Path(f"artifacts/models/{V}/snapshots/step_00000002")
LAST = Path(f"artifacts/models/{V}")


@pytest.fixture
def params(place: Place, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Networks of steps 2, 4 and 6, of which the first is taken, as the last one would be by itself."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(train, "fit", fit_here)
    monkeypatch.setattr(select_checkpoint, "best_checkpoint", lambda found: (min(found), "raw"))
    few = {"selection": {"num_samples": 20, "seed": 5000}}
    monkeypatch.setitem(SMALL, "generate", SMALL["generate"] | few)
    monkeypatch.setitem(SMALL, "train", SMALL["train"] | {"snapshot_every": 2})
    return small(place.path, enabled=True)


class Enough(Exception):
    """What is looked for has happened."""


def loaded_by(stage: Any, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that a stage loads networks from, before the first of them is used."""
    found: list[Path] = []

    def load(folder: Path, *_: object) -> None:
        found.append(folder)
        raise Enough

    monkeypatch.setattr(stage, "load_network", load)
    return found


def test_what_follows_the_choice_is_of_the_chosen_network(
    place: Place, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stage in (prepare, features, tune_noise, settle_noise):
        stage.main(params)
    train.main(params, V)
    tune_sampler.main(params)
    settle_sampler.main(params)
    generate.main(params, V)
    about = read_json(Path(f"artifacts/selection/{V}.json"))
    assert [point["step"] for point in about["points"]] == [2, 4, 6] and about["step"] == 2
    assert about["sha256"] == sha256(CHOSEN / "ema.safetensors") != sha256(LAST / "ema.safetensors")
    assert about["seed"] == 5000 and about["num_samples"] == 20
    assert not list(Path(".runs").glob("selection-*")) and not list(Path(".runs").glob("samples-*"))

    manifest = read_json(Path(f"artifacts/samples/{V}/manifest.json"))
    assert "selection" not in manifest and manifest["seed"] == 3000
    settings = {key: manifest[key] for key in ("num_samples", "shard_size", "precision", "compile", "seed")}
    network, sampler = load_network(CHOSEN), Sampler.read(manifest["sampler"])
    again = sample.generate(network, sampler, shape=(1, 8, 8), **settings)
    assert np.array_equal(np.load(f"artifacts/samples/{V}/raw.npy"), again.raw)

    monkeypatch.setattr(evaluate, "evaluate_row", lambda *_, **__: {})
    followers = [(stage, loaded_by(stage, monkeypatch)) for stage in (evaluate, frontier)]
    for stage, loaded in followers:
        with pytest.raises(Enough):
            stage.main(params, *([V] if stage is evaluate else []))
        assert loaded == [CHOSEN]
    _registered(place)


def _registered(place: Place) -> None:
    """Two versions, the last network's and the chosen one's, and no snapshot in either."""
    versions = place.client.search_model_versions(f"name = 'ncsn-digits-{V}'")
    assert {version.tags["checkpoint"] for version in versions} == {
        sha256(folder / "manifest.json") for folder in (CHOSEN, LAST)
    }
    held = [path for path in Path("mlartifacts").rglob("*.safetensors") if "ema" in path.name]
    assert len(held) == 2 and not [path for path in held if "snapshots" in path.parts]
