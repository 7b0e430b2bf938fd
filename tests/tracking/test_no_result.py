"""Tracking changes no result: a small pipeline leaves the same bytes with it and without."""

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.params import Params, load
from pipeline.params.schema import extra_rows
from pipeline.training.fit import fit
from pipeline.training.log import Follower
from stages import (
    evaluate,
    features,
    frontier,
    generate,
    prepare,
    report,
    settle_noise,
    settle_sampler,
    toy,
    train,
    tune_noise,
    tune_sampler,
)

from .conftest import Place

V = "tuned"
"""A network, and the row that is drawn from it."""
SMALL: dict[str, dict[str, Any]] = {
    "features": {"width": 8, "epochs": 1, "min_accuracy": 0.0},
    "noise": {V: {"kind": "geometric", "sigma_max": 1.0, "sigma_min": 0.1, "num_levels": 4}},
    "sampler": {V: {"kind": "langevin", "step_size": "analytic", "steps_per_level": 1}},
    "tune_noise": {"num_trials": 0},
    "tune_sampler": {
        "num_trials": 0,
        "baseline": {
            "network": V,
            "sampler": {"kind": "langevin", "step_size": "analytic", "steps_per_level": 1},
        },
    },
    "train": {"steps": 6, "batch_size": 16, "checkpoint_every": 4, "log_every": 2},
    "generate": {"num_samples": 60, "shard_size": 30},
    "evaluate": {"nearest_k": 3, "kid_subsets": 5, "kid_subset_size": 30, "splits": 2},
    "frontier": {"network": V, "nfe": [3, 5], "num_samples": 20, "shard_size": 10},
    "report": {"grid": [2, 4]},
    "toy": {
        "num_samples": 40,
        "steps": 2,
        "losses": {"sigmas": [0.0, 0.1], "steps": 2, "width": 4, "batch_size": 8, "lr": 1e-3},
    },
}
VARYING = {"seconds", "images_per_second", "seconds_per_1000", "run_id", "made"}
TIMED = {f"artifacts/metrics/train_{V}.json", f"artifacts/metrics/generate_{V}.json", "reports/table.json"}
PAGES = {
    f"reports/{name}" for name in ("README.md", "index.html", "table.md", "table.tex", "table.csv", "model_card.md")
}


def small(place: Path, *, enabled: bool, extra_seeds: tuple[int, ...] = ()) -> Params:
    """The parameters of a pipeline of one row that needs no search and no Ray, written to params.yaml."""
    yaml = YAML(typ="safe")
    raw = yaml.load(place / "params.yaml")
    for section, changes in SMALL.items():
        raw[section] = {**raw[section], **changes}
    raw["networks"], raw["rows"], raw["recipes"][V]["network"]["width"] = [V], {V: V}, 8
    raw["extra_seeds"], raw["extra_rows"] = list(extra_seeds), extra_rows(raw["rows"], list(extra_seeds))
    raw["tracking"]["enabled"] = enabled
    yaml.dump(raw, place / "params.yaml")
    return load()


def evaluated(params: Params) -> None:
    """The stages up to `evaluate`, for each training seed, in the order of dvc.yaml, in this process."""
    for stage in (prepare, features, tune_noise, settle_noise):
        stage.main(params)
    for network in params.trainings():
        train.main(params, network)
    for stage in (tune_sampler, settle_sampler):
        stage.main(params)
    for row in params.all_rows():
        generate.main(params, row)
        evaluate.main(params, row)


def work(params: Params) -> None:
    """All stages, in the order of dvc.yaml, in this process."""
    evaluated(params)
    frontier.main(params)
    toy.main(params)
    report.main(params)


def outputs(place: Path) -> dict[str, bytes]:
    """What the stages wrote, but for readings of a clock and run ids, and the pages that print them."""
    paths = [p for top in ("artifacts", "reports") for p in (place / top).rglob("*") if p.is_file()]
    found = {str(path.relative_to(place)): path.read_bytes() for path in paths}
    assert found.keys() > TIMED | PAGES
    for name in TIMED:
        found[name] = json.dumps(without(json.loads(found[name]), VARYING)).encode()
    return {name: content for name, content in found.items() if name not in PAGES}


def without(value: Any, keys: set[str]) -> Any:
    if isinstance(value, list):
        return [without(item, keys) for item in value]
    if isinstance(value, dict):
        return {key: without(item, keys) for key, item in value.items() if key not in keys}
    return value


def fit_here(task: Any, images: Any, run_folder: Path, *, on_event: Any, **_: Any) -> Path:
    """`cluster.train.fit` without Ray."""
    done = fit(task, images, run_folder)
    Follower(run_folder, on_event, task.steps).drain()
    return done


def test_a_tracked_pipeline_leaves_the_bytes_of_an_untracked_one(
    place: Place, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(train, "fit", fit_here)
    elsewhere = tmp_path_factory.mktemp("untracked")
    for name in ("params.yaml", "dvc.yaml"):
        (elsewhere / name).write_bytes((place.path / name).read_bytes())
    with monkeypatch.context() as there:
        there.chdir(elsewhere)
        work(small(elsewhere, enabled=False))
    assert not (elsewhere / "mlflow.db").exists()

    work(small(place.path, enabled=True))  # second: what it did to the process would reach the other
    assert {run.data.tags["stage"] for run in place.runs("stage")} == {
        "prepare", "features", "tune_noise", "settle_noise", "train", "tune_sampler", "settle_sampler",
        "generate", "evaluate", "frontier", "toy", "report",
    }  # fmt: skip
    assert place.client.get_model_version_by_alias(f"ncsn-digits-{V}", "reported").version
    assert [mark.read_text() for mark in place.path.glob(".runs/*/published")] == [V]
    (pipeline,) = place.runs("pipeline")
    assert {f"fid/{V}/denoised", f"nfe/{V}/raw", "fid/floor"} < pipeline.data.metrics.keys()

    tracked, untracked = outputs(place.path), outputs(elsewhere)
    assert [name for name in tracked if tracked[name] != untracked.get(name)] == []
    assert untracked.keys() == tracked.keys()
