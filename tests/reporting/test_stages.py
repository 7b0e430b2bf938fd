"""The stages `toy` and `report`, called as DVC calls them but in a folder of their own and untracked."""

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.data.preparation import prepare
from pipeline.params import Params, parse
from pipeline.reporting.figures.toy import TITLES, toy_entries
from pipeline.toy import ToyResults
from stages import report, toy

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    raw = YAML(typ="safe").load(ROOT / "params.yaml")
    raw["tracking"]["enabled"] = False
    raw["toy"] |= {"num_samples": 60, "steps": 2}
    raw["toy"]["losses"] |= {"steps": 2, "width": 4, "batch_size": 8}
    monkeypatch.chdir(tmp_path)
    return parse(raw, "params.yaml")


def test_toy_counts_the_modes_and_saves_what_the_figures_need(params: Params) -> None:
    prepare(Path("artifacts/data"), **params.data.kwargs())
    toy.main(params)
    assert {path.name for path in Path("artifacts/toy").iterdir()} == {"arrays.safetensors", "numbers.json"}
    metrics = json.loads(Path("artifacts/toy/numbers.json").read_text())
    assert set(metrics["losses"]) == {f"sigma_{sigma:g}" for sigma in params.toy.losses.sigmas}
    assert {found["level"] for found in metrics["diverged"].values()} == {1}
    found = metrics["panels"]
    assert set(found) == set(TITLES), "a panel without a title, or a title without a panel"
    assert abs(found["langevin"]["fraction"] - 0.5) < 0.2
    assert all(abs(found[name]["fraction"] - 0.8) < 0.2 for name in TITLES if name != "langevin")
    shown = json.loads(Path("artifacts/metrics/toy.json").read_text())
    named = {"toy_langevin": "langevin", "toy_annealed": "annealed_released"}
    assert shown == {key: found[name]["fraction"] for key, name in named.items()}
    saved = ToyResults.load(Path("artifacts/toy"))
    assert saved.metrics() == metrics and saved.headline() == shown
    entries = list(toy_entries(Path("figures"), Path("artifacts"), "digits"))
    assert [len(entry.pictures[0].files) for entry in entries] == [2, 2, 2]
    assert len(list(Path("figures").iterdir())) == 6
    toy.main(params)
    saved.save(Path("figures"))
    assert Path("figures/arrays.safetensors").read_bytes() == Path("artifacts/toy/arrays.safetensors").read_bytes()


def test_report_writes_the_whole_folder(params: Params, artifacts: Path) -> None:
    prepare(artifacts / "data", **params.data.kwargs())
    report.main(params)
    names = {path.name for path in Path("reports").iterdir()}
    tables = {"table.md", "table.tex", "table.csv", "table.json"}
    cards = {"model_card.md", "dataset_card.md"}
    assert names == {"README.md", "index.html", "settings.json", *tables, *cards, "figures"}
    assert "# Results on digits" in Path("reports/README.md").read_text()
