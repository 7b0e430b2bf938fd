"""The whole pipeline, as a job on a real cluster that shares the checkout's file system."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.files import read_json

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.pipeline


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the repository on the reduced preset, with one variant and a lower bar for the classifier."""
    for name in ("pipeline", "stages", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, tmp_path)
    command = [sys.executable, "-m", "pipeline.preset", "digits_reduced"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    _change(
        tmp_path,
        variants=["tuned"],
        frontier={"variant": "tuned"},
        tune_sampler={"baseline": "tuned"},
        reference={"epochs": 5, "min_accuracy": 0.5},
    )
    return tmp_path


def _change(checkout: Path, **changes: object) -> None:
    yaml, path = YAML(), checkout / "params.yaml"
    params = yaml.load(path)
    for key, value in changes.items():
        params[key] = {**params[key], **value} if isinstance(value, dict) else value
    yaml.dump(params, path)


def test_a_job_brings_the_table_and_the_lock_and_fails_with_its_stage(checkout: Path, head: object) -> None:
    environment, dashboard = head.environment, head.dashboard  # type: ignore[attr-defined]
    subprocess.run(["dvc", "init", "--no-scm", "-q"], cwd=checkout, env=environment, check=True)

    def submitted(stage: str) -> subprocess.CompletedProcess[str]:
        inner = f"cd {checkout} && dvc repro {stage}"
        command = ["ray", "job", "submit", "--address", dashboard, "--", "bash", "-c", inner]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)

    good = submitted("")
    assert good.returncode == 0, good.stdout + good.stderr
    rows = read_json(checkout / "reports/table.json")["rows"]
    assert [(r["system"], r["denoised"]) for r in rows[:2]] == [("tuned", False), ("tuned", True)]
    assert all(r["fid"] > 0 and r["n"] == 200 for r in rows[:2]) and rows[0]["nfe"] + 1 == rows[1]["nfe"]
    stages = YAML(typ="safe").load(checkout / "dvc.lock")["stages"]
    names = {"prepare", "reference", "tune_noise", "tune_sampler", "frontier", "toy", "report"}
    assert set(stages) == names | {f"{stage}@tuned" for stage in ("train", "generate", "evaluate")}

    before = (checkout / "dvc.lock").read_text()
    _change(checkout, reference={"min_accuracy": 1.0})
    bad = submitted("reference")
    assert bad.returncode != 0 and "reference.min_accuracy" in bad.stdout
    assert (checkout / "dvc.lock").read_text() == before
