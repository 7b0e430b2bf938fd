"""DVC's own views of a run are what a person can read: a narrow table, and a small page without scripts."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from ruamel.yaml import YAML

from pipeline.dvcfile import params

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = 100
NUMBERS = {"fid": 13.49759875, "kid": 0.41431921, "precision": 0.36944444, "recall": 0.82533054, "nfe": 1000}


def of_dvc(folder: Path, *command: str) -> str:
    done = subprocess.run([sys.executable, "-m", "dvc", *command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """What DVC reads of a repository after a run: a line of numbers for each row, and the figures named."""
    of_dvc(tmp_path, "init", "--no-scm", "--quiet")
    for name in ("dvc.yaml", "params.yaml", ".dvc/config", ".dvc/plots.html"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "artifacts/metrics").mkdir(parents=True)
    for row in params(tmp_path)["rows"]:
        (tmp_path / f"artifacts/metrics/{row}.json").write_text(json.dumps(NUMBERS))
    (tmp_path / "reports/figures").mkdir(parents=True)
    for name in ("samples.png", "samples.svg", "hero.png", "frontier.png", "loss.png", "parallel.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / "reports/figures" / name, "PNG")
    return tmp_path


def test_the_metrics_are_a_narrow_table_with_a_line_for_each_row(finished: Path) -> None:
    heading, *lines = of_dvc(finished, "metrics", "show").strip().splitlines()
    assert {*heading.split()} == {"Path", *NUMBERS}
    assert {line.split()[0] for line in lines} == {f"artifacts/metrics/{r}.json" for r in params(finished)["rows"]}
    assert max(map(len, (heading, *lines))) <= COLUMNS


def test_the_plots_are_one_page_with_each_figure_once_and_no_script(finished: Path) -> None:
    of_dvc(finished, "plots", "show", "--out", "page")
    named = YAML(typ="safe").load(finished / "dvc.yaml")["plots"]
    shown = sorted(path.name for path in (finished / "page/static").iterdir())
    assert shown == sorted(f"workspace_{name.replace('/', '_')}" for name in named)
    assert len({Path(name).stem for name in named}) == len(named) == 4
    page = (finished / "page/index.html").read_text()
    assert "<script" not in page and "http" not in page and page.count("<img") == 4


def test_a_table_that_is_named_by_hand_is_drawn_on_the_same_page(finished: Path) -> None:
    (finished / "mine.csv").write_text("x,y\n1,2\n2,3\n")
    of_dvc(finished, "plots", "show", "mine.csv", "-x", "x", "-y", "y", "--out", "page")
    assert "vega-embed" in (finished / "page/index.html").read_text()
