"""After `make repro` in a clone git has nothing to report, and DVC's own commands still work."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLAN = """
stages:
  report:
    cmd:
      - mkdir -p artifacts reports
      - cp params.yaml artifacts/x.yaml
      - cp given.json reports/table.json
      - date > reports/table.md
    params: [x]
    metrics: [artifacts/x.yaml]
    outs: [{reports: {cache: false}}]
"""
EMPTY_LOCK = "schema: '2.0'\n"


def run(place: Path, *command: str) -> str:
    tools = Path(sys.executable).parent
    own = {"HOME": str(place.parent / "home"), "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}
    env = os.environ | own | {"PATH": f"{tools}:{os.environ['PATH']}"}
    env.pop("DVC_SITE_CACHE_DIR", None)
    names = {f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(command, cwd=place, env=env | names, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def clone(place: Path, lock: str) -> Path:
    """A clone of a pipeline of one stage, with this repository's Makefile and .gitignore."""
    origin = place / "origin"
    (origin / "docs/results/digits").mkdir(parents=True)
    for name in ("Makefile", ".gitignore"):
        shutil.copyfile(ROOT / name, origin / name)
    for name in ("given.json", "docs/results/digits/table.json"):
        shutil.copyfile(ROOT / "docs/results/digits/table.json", origin / name)
    contents = {
        "dvc.yaml": PLAN,
        "dvc.lock": lock,
        "params.yaml": "x: 1\n",
        "requirements.lock": "",
        "pyproject.toml": "",
    }
    for name, content in contents.items():
        (origin / name).write_text(content)
    run(origin, "git", "init", "-q")
    run(origin, "dvc", "init", "-q")
    run(origin, "git", "add", ".")
    run(origin, "git", "commit", "-q", "-m", "x")
    run(place, "git", "clone", "-q", "origin", "clone")
    (place / "clone/.venv").mkdir()
    (place / "clone/.venv/installed").touch()
    return place / "clone"


def test_after_make_repro_git_status_is_clean(tmp_path: Path) -> None:
    place = clone(tmp_path, EMPTY_LOCK)
    assert "bit-equal" in run(place, "make", "repro")
    assert run(place, "git", "status", "--porcelain") == ""
    assert "report:" in (place / "dvc.lock").read_text()
    assert "up to date" in run(place, "dvc", "status")
    run(place, "dvc", "exp", "run", "-S", "x=2", "-n", "two")
    run(place, "git", "checkout", "params.yaml")
    run(place, "make", "repro")
    assert run(place, "git", "status", "--porcelain") == ""
    assert "| artifacts/x.yaml | x        | 2     | 1           | -1       |" in run(
        place, "dvc", "metrics", "diff", "--md", "two"
    )


def test_what_dvc_unpickles_lies_where_no_other_user_writes(tmp_path: Path) -> None:
    run(clone(tmp_path, EMPTY_LOCK), "make", "repro")
    site = tmp_path / "home/.cache/dvc-site"
    assert list(site.iterdir())
    assert site.stat().st_mode & 0o077 == 0


def test_a_lock_that_was_committed_with_outputs_is_left_to_git(tmp_path: Path) -> None:
    place = clone(tmp_path, f"{EMPTY_LOCK}stages:\n  report:\n    cmd: older\n")
    run(place, "make", "repro")
    assert run(place, "git", "status", "--porcelain") == " M dvc.lock\n"


@pytest.mark.parametrize("path", ["reports/table.json", "artifacts/x", ".runs/x"])
def test_git_ignores_what_a_run_writes(path: str) -> None:
    assert run(ROOT, "git", "check-ignore", path) == f"{path}\n"


def test_the_committed_lock_claims_no_output() -> None:
    assert run(ROOT, "git", "show", "HEAD:dvc.lock") == EMPTY_LOCK
