"""Where a run comes from: git, the repository around a copy, parameters that fit."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from pipeline.tracking import provenance


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


def test_the_commit_is_dirty_when_a_tracked_file_other_than_the_lock_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert provenance.git() == {}
    git("init")
    for name in ("code.py", "dvc.lock"):
        Path(name).write_text("1")
    git("add", ".")
    git("commit", "-m", "one")
    clean = provenance.git()
    assert len(clean["mlflow.source.git.commit"]) == 40 and clean["git.dirty"] == "false"
    Path("dvc.lock").write_text("2")
    Path("untracked").write_text("2")
    assert provenance.git() == clean
    Path("code.py").write_text("2")
    assert provenance.git() == {**clean, "git.dirty": "true"}


def test_an_experiment_in_a_copy_is_recorded_in_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "tmp123"
    copy.mkdir(parents=True)
    for place, root in ((copy, tmp_path), (tmp_path, tmp_path)):
        monkeypatch.chdir(place)
        assert provenance.root() == root


def test_leaves_have_dotted_keys_and_only_numbers_are_metrics() -> None:
    values = {"raw": {"fid": np.float32(2.0), "evaluator": "x"}, "ok": True, "n": np.int64(3), "list": [1]}
    assert provenance.numbers(values) == {"raw.fid": 2.0, "n": 3.0}
    assert dict(provenance.flat(values))["raw.evaluator"] == "x"
