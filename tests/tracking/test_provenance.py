"""Where a run comes from: git, the repository around a copy, parameters that fit."""

from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from pipeline.git import Commit
from pipeline.tracking import provenance


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


def test_leaves_have_dotted_keys_and_only_numbers_are_metrics() -> None:
    values = {"raw": {"fid": np.float32(2.0), "evaluator": "x"}, "ok": True, "n": np.int64(3), "list": [1]}
    assert provenance.numbers(values) == {"raw.fid": 2.0, "n": 3.0}
    assert dict(provenance.flat(values))["raw.evaluator"] == "x"
