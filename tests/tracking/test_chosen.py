"""A pipeline whose checkpoint was chosen: all that follows is of that network, to the registry's alias."""

from pathlib import Path

import numpy as np
import pytest

from pipeline import publish
from pipeline.distributed import sample, selection
from pipeline.files import read_json, sha256
from pipeline.params import Params
from pipeline.reporting.rows import Table
from pipeline.samplers.settings import Sampler
from pipeline.training.state import load_network
from stages import evaluate, frontier, report, train

from .conftest import Place
from .test_no_result import SMALL, V, evaluated, fit_here, small

pytestmark = pytest.mark.slow

CHOSEN = Path(f"artifacts/models/{V}/snapshots/step_00000002")
LAST = Path(f"artifacts/models/{V}")


@pytest.fixture
def params(place: Place, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Networks of steps 2, 4 and 6, of which the first is taken, as the last one would be by itself."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(train, "fit", fit_here)
    monkeypatch.setattr(selection, "best", lambda found: (min(found), "raw"))
    few = {"selection": {"num_samples": 20, "seed": 5000}}
    monkeypatch.setitem(SMALL, "generate", SMALL["generate"] | few)
    monkeypatch.setitem(SMALL, "train", SMALL["train"] | {"snapshot_every": 2})
    return small(place.path, enabled=True)


def test_what_follows_the_choice_is_of_the_chosen_network(
    place: Place, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: dict[str, list[Path]] = {"evaluate": [], "frontier": []}

    def watching(name: str) -> object:
        return lambda folder, *rest: loaded[name].append(folder) or load_network(folder, *rest)

    for name, stage in (("evaluate", evaluate), ("frontier", frontier)):
        monkeypatch.setattr(stage, "load_network", watching(name))
    evaluated(params)
    frontier.main(params)
    report.main(params)
    assert loaded == {"evaluate": [CHOSEN], "frontier": [CHOSEN]}

    about = read_json(Path(f"artifacts/selection/{V}.json"))
    assert [point["step"] for point in about["points"]] == [2, 4, 6] and about["step"] == 2
    assert about["sha256"] == sha256(CHOSEN / "ema.safetensors") != sha256(LAST / "ema.safetensors")
    assert not list(Path(".runs").glob("selection-*")) and not list(Path(".runs").glob("samples-*"))

    manifest = read_json(Path(f"artifacts/samples/{V}/manifest.json"))
    again = sample.generate(
        load_network(CHOSEN),
        Sampler.read(manifest["sampler"]),
        shape=(1, 8, 8),
        remote=False,
        **{key: manifest[key] for key in ("num_samples", "shard_size", "precision", "compile", "seed")},
    )
    assert np.array_equal(np.load(f"artifacts/samples/{V}/raw.npy"), again.raw)

    table = Table.from_json(read_json(Path("reports/table.json")))
    rows = [row for row in table.rows if not row.is_floor]
    assert {row.network for row in rows} == {CHOSEN}
    assert {row.sha256("checkpoint") for row in rows} == {about["sha256"]}
    folder = publish.publish(V, Path("out"), artifacts=Path("artifacts"), reports=Path("reports"))
    assert sha256(folder / "model.safetensors") == about["sha256"]
    assert read_json(folder / "config.json")["steps"] == 2
    _registered(place)


def _registered(place: Place) -> None:
    """Two versions, the last one's and the chosen one's, and no snapshot in either."""
    name = f"ncsn-digits-{V}"
    reported = place.client.get_model_version_by_alias(name, "reported")
    assert reported.tags["checkpoint"] == sha256(CHOSEN / "manifest.json")
    versions = place.client.search_model_versions(f"name = '{name}'")
    assert {v.tags["checkpoint"] for v in versions} == {
        sha256(folder / "manifest.json") for folder in (CHOSEN, LAST)
    }
    held = [path for path in Path("mlartifacts").rglob("*") if "snapshots" in path.parts]
    assert not held, "a training's networks go to the registry when they are chosen"
