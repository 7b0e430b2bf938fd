"""What counts as dirty: what decides a result, not what a run writes."""

import subprocess
from pathlib import Path

import pytest

from pipeline.git import commit


def git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("pipeline/x.py", "params.yaml", "dvc.yaml", "requirements.lock", "dvc.lock", "reports/t.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "x")
    return tmp_path


def test_outside_a_checkout_there_is_none(tmp_path: Path) -> None:
    assert commit(tmp_path).sha is None and commit(tmp_path).short() == "no git checkout"


@pytest.mark.parametrize("name", ["dvc.lock", "reports/t.md", "README.md"])
def test_what_a_run_or_a_writer_leaves_is_not_dirty(name: str, checkout: Path) -> None:
    clean = commit(checkout)
    assert clean.sha is not None and len(clean.sha) == 40 and not clean.dirty
    (checkout / name).write_text("2")
    assert commit(checkout) == clean


@pytest.mark.parametrize("name", ["pipeline/x.py", "pipeline/new.py", "params.yaml", "dvc.yaml", "requirements.lock"])
def test_what_decides_a_result_is_dirty(name: str, checkout: Path) -> None:
    sha = commit(checkout).sha
    (checkout / name).write_text("2")
    assert commit(checkout).dirty and commit(checkout).short() == f"{str(sha)[:10]}+dirty"
