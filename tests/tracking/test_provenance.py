"""Where a run comes from: git, the repository around a copy, parameters that fit."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from pipeline.files import write_yaml
from pipeline.git import Commit
from pipeline.params import load
from pipeline.tracking import provenance

ROOT = Path(__file__).resolve().parents[2]


def test_the_tags_are_the_commit_that_the_report_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "commit", lambda: Commit("0123", dirty=True))
    assert provenance.git() == {"mlflow.source.git.commit": "0123", "git.dirty": "true"}
    monkeypatch.setattr(provenance, "commit", lambda: Commit(None))
    assert provenance.git() == {}


def test_an_experiment_in_a_copy_is_recorded_in_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "tmp123"
    copy.mkdir(parents=True)
    for place, root in ((copy, tmp_path), (tmp_path, tmp_path)):
        monkeypatch.chdir(place)
        assert provenance.root() == root


def test_the_store_lies_in_a_folder_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("a b", "a%20b", "a?b#c"):
        root = tmp_path / name
        root.mkdir()
        MlflowClient(provenance.store_uri(root)).search_experiments()
        assert [path.name for path in root.iterdir()] == ["mlflow.db"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a b", "a%20b", "a?b#c"]


def test_what_two_rows_differ_in_has_the_same_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    params = load().model_dump()
    for row, network, sigma in (("edm", "edm", 40.0), ("tuned_fewest", "tuned", 0.78)):
        write_yaml(Path(f"artifacts/noise/{network}.yaml"), {"sigma_max": sigma, "sigma_min": 0.001})
        plain = {"kind": f"kind of {row}", "num_levels": 5}
        write_yaml(Path(f"artifacts/sampler/{row}.yaml"), {"network": network, "searches": [], "sampler": plain})
    names = ("recipe.optimizer.lr", "recipe.network.width", "noise.sigma_max", "noise.sigma_min", "sampler.kind")
    for stage in ("generate", "evaluate"):
        found = [provenance.sections(stage, row, params) for row in ("edm", "tuned_fewest")]
        assert [found[0][name] for name in names] == ["0.004", "256", "40.0", "0.001", "kind of edm"]
        assert [found[1][name] for name in names] == ["0.008", "16", "0.78", "0.001", "kind of tuned_fewest"]
        assert not [name for one in found for name in one if "edm" in name.split(".") or "tuned" in name.split(".")]
    trained = provenance.sections("train", "edm", params)
    assert [trained[name] for name in names[:4]] == ["0.004", "256", "40.0", "0.001"]
    assert not [name for name in trained if name.startswith(("sampler.", "recipes."))]


def test_a_damaged_settled_file_is_its_stage_s_to_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("artifacts/sampler").mkdir(parents=True)
    Path("artifacts/sampler/edm.yaml").write_text("sampler: [")
    found = provenance.sections("generate", "edm", load().model_dump())
    assert found["recipe.network.width"] == "256" and not [name for name in found if name.startswith("sampler.")]


def test_leaves_have_dotted_keys_and_only_numbers_are_metrics() -> None:
    values = {"raw": {"fid": np.float32(2.0), "evaluator": "x"}, "ok": True, "n": np.int64(3), "list": [1]}
    assert provenance.numbers(values) == {"raw.fid": 2.0, "n": 3.0}
    assert dict(provenance.flat(values))["raw.evaluator"] == "x"
