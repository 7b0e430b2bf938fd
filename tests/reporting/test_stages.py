"""The stages `toy` and `report`, called as DVC calls them but in a folder of their own and untracked."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from pipeline.data.preparation import prepare
from pipeline.params import Params, parse
from pipeline.reporting.toy import TITLES
from stages import report, toy

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    raw = YAML(typ="safe").load(ROOT / "params.yaml")
    raw["tracking"]["enabled"] = False
    raw["toy"] |= {"num_samples": 60, "steps": 2}
    monkeypatch.chdir(tmp_path)
    return parse(raw, "params.yaml")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small tensors are slower on several threads, many times slower where other tests use them too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_toy_draws_both_figures_and_counts_the_modes(params: Params, one_thread: None) -> None:
    toy.main(params)
    assert {path.name for path in Path("artifacts/toy").iterdir()} == {
        "fig2.png",
        "fig2.svg",
        "fig3.png",
        "fig3.svg",
    }
    found = json.loads(Path("artifacts/metrics/toy.json").read_text())["panels"]
    assert set(found) == set(TITLES), "a panel without a title, or a title without a panel"
    assert abs(found["langevin"]["fraction"] - 0.5) < 0.2
    assert all(abs(found[name]["fraction"] - 0.8) < 0.2 for name in TITLES if name != "langevin")


def test_report_writes_the_whole_folder(params: Params, artifacts: Path) -> None:
    prepare(artifacts / "data", **params.data.kwargs())
    report.main(params)
    names = {path.name for path in Path("reports").iterdir()}
    assert names == {"README.md", "table.md", "table.csv", "table.json", "model_card.md", "figures"}
    assert "# Results on digits" in Path("reports/README.md").read_text()
