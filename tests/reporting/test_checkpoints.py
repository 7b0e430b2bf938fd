"""The rule that chose a checkpoint is said, what it chose is held to its bytes, its FIDs are in no table."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.collections
import pytest
import torch

from pipeline import selected_checkpoint
from pipeline.commands import publish
from pipeline.files import read_json, sha256, write_json
from pipeline.git import Commit
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.sampler import Sampler
from pipeline.reporting import cards, columns, latex, page, tables
from pipeline.reporting.figures import curves
from pipeline.reporting.read_table import checkpoint_rule, choices, read_table
from pipeline.reporting.rows import Table
from pipeline.training import checkpoints
from pipeline.training.state import fresh
from pipeline.verify import table as check
from tests.reporting.conftest import ROWS, manifest, write_run
from tests.training.tiny import make_task

ABOUT: dict[str, Any] = {
    "step": 20_000,
    "kind": "raw",
    "num_samples": 1000,
    "seed": 5000,
    "evaluator": "E",
    "points": [
        {"step": 10_000, "raw": 63.25, "denoised": 71.5},
        {"step": 20_000, "raw": 54.75, "denoised": 66.125},
        {"step": 30_000, "raw": None, "denoised": None},
        {"step": 40_000, "raw": 58.5, "denoised": 69.0},
    ],
}
OTHERS = ["ncsnv2", "tuned"]
RULE = (
    "lowest FID on 1,000 samples, with or without denoising, of 4 snapshots: step 20,000 (without "
    "denoising); samples from seed 5000, not the report's"
)


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    """A run in which `ncsn` was chosen among four, and the others' last networks were taken."""
    root = write_run(tmp_path / "artifacts")
    task = make_task(steps=40_000, snapshot_every=10_000)
    made = fresh(task)
    for made.step in (40_000, 10_000, 20_000, 30_000):
        for tensor in made.ema.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand(()))
        own = "" if made.step == task.steps else f"snapshots/step_{made.step:08d}"
        checkpoints.save(root / "models/ncsn" / own, made, whole=False)
    selected_checkpoint.write_selection(root, "ncsn", root / "models/ncsn/snapshots/step_00020000", ABOUT)
    for row in OTHERS:
        selected_checkpoint.write_selection(root, row, root / f"models/{row}", {})
    (root / "data").mkdir()
    (root / "data/images.npy").write_bytes(b"images")
    hashes = {"images": sha256(root / "data/images.npy"), "labels": "00" * 32}
    write_json(root / "data/manifest.json", manifest() | {"sha256": hashes})
    return root


@pytest.fixture
def table(artifacts: Path) -> Table:
    return read_table(artifacts, ROWS, read_json(artifacts / "data/manifest.json"), Commit(None))


def test_the_rule_is_said_wherever_the_table_is(table: Table, artifacts: Path) -> None:
    said = columns.checkpoint_lines(table)
    assert said == [
        f"Checkpoint of ncsn: {RULE}",
        *(f"Checkpoint of {v}: the last one" for v in OTHERS),
    ]
    for text in (tables.markdown(table), page.readme(table, page.sections(table, [], {}, {}, {}))):
        assert all(f"- {line}\n" in text for line in said)
    assert latex.escaped(f"{said[0]}.") in latex.latex_table(table)
    assert all(row.checkpoint_rule is None for row in table.floors())
    for row in ROWS:
        selected_checkpoint.write_selection(artifacts, row, artifacts / f"models/{row}", {})
    alike = read_table(artifacts, ROWS, manifest(), Commit(None))
    assert columns.checkpoint_lines(alike) == ["Checkpoint of every row: the last one"]


def test_the_fids_of_the_choice_are_in_no_table(table: Table, artifacts: Path, tmp_path: Path) -> None:
    values = [str(p[kind]) for p in ABOUT["points"] for kind in ("raw", "denoised") if p[kind]]
    texts = [
        tables.markdown(table),
        tables.to_csv(table),
        str(tables.to_json(table)),
        latex.latex_table(table),
    ]
    assert not [value for value in values for text in texts if value in text]
    (shown,) = curves.choice_figures(tmp_path / "figures", artifacts, list(ROWS))
    assert "1,000 samples" in shown.caption and {path.name for path in (tmp_path / "figures").iterdir()} == {
        "selection.png", "selection.svg",
    }  # fmt: skip
    (axes,) = curves.choice_curves(choices(artifacts, list(ROWS))).axes
    assert axes.get_ylabel() == "FID (N=1,000)"
    (line,) = axes.lines
    assert line.get_xydata().tolist() == [[10_000, 63.25], [20_000, 54.75], [40_000, 58.5]]
    marks = [c for c in axes.collections if isinstance(c, matplotlib.collections.PathCollection)]
    assert [mark.get_offsets().tolist() for mark in marks] == [[[20_000, 54.75]]]
    assert list(curves.choice_figures(tmp_path / "none", artifacts, OTHERS)) == []


def findings(artifacts: Path, table: Table) -> list[str]:
    row = table.row("ncsn", False)
    assert row is not None
    return [str(found) for found in check.row_findings(row, check.Now(artifacts, ROWS, ()).row(row), artifacts)]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def other(artifacts: Path) -> None:
    selected_checkpoint.write_selection(artifacts, "ncsn", artifacts / "models/ncsn/snapshots/step_00010000", ABOUT)


CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a byte of the chosen network": (
        lambda root: flip(root / "models/ncsn/snapshots/step_00020000/ema.safetensors"),
        "checkpoint artifacts/models/ncsn/snapshots/step_00020000/ema.safetensors",
    ),
    "another network": (other, "checkpoint artifacts/models/ncsn/snapshots/step_00010000/ema.safetensors"),
    "an FID of the choice": (
        lambda root: selected_checkpoint.write_selection(
            root,
            "ncsn",
            selected_checkpoint.network_folder(root, "ncsn"),
            {**ABOUT, "points": ABOUT["points"][:2]},
        ),
        "choice artifacts/selection/ncsn.json",
    ),
    "no choice": (lambda root: (root / "selection/ncsn.json").unlink(), "artifacts/selection/ncsn.json"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_what_was_chosen_is_caught(change: str, artifacts: Path, table: Table) -> None:
    assert findings(artifacts, table) == []
    CHANGES[change][0](artifacts)
    assert any(CHANGES[change][1] in found for found in findings(artifacts, table)), findings(artifacts, table)


def test_the_chosen_network_is_published_and_used_on_the_card(artifacts: Path, table: Table, tmp_path: Path) -> None:
    write_json(tmp_path / "reports/table.json", tables.to_json(table))
    folder = publish.publish("ncsn", tmp_path / "out", artifacts=artifacts, reports=tmp_path / "reports")
    place = artifacts / "models/ncsn/snapshots/step_00020000"
    assert sha256(folder / "model.safetensors") == sha256(place / "ema.safetensors")
    assert read_json(folder / "config.json")["steps"] == 20_000 and RULE in (folder / "README.md").read_text()
    row = table.row("ncsn", True)
    assert row is not None
    use = cards.usage(row, manifest(), Sampler("heun", Ladder(1.0, 0.01, 3, 7.0), {}))
    assert 'load_network(Path("artifacts/models/ncsn/snapshots/step_00020000"))' in use
    flip(place / "ema.safetensors")
    with pytest.raises(UserError, match="damaged"):
        publish.publish("ncsn", tmp_path / "again", artifacts=artifacts, reports=tmp_path / "reports")


def test_a_file_that_names_no_network_is_refused(artifacts: Path) -> None:
    for wrong in ({"points": []}, {"network": "/etc"}):
        write_json(artifacts / "selection/ncsn.json", wrong)
        with pytest.raises(UserError, match="names no network: delete it"):
            selected_checkpoint.network_folder(artifacts, "ncsn")


def test_several_trainings_of_a_row_were_chosen_each(artifacts: Path) -> None:
    other = {"step": 40_000, "kind": "denoised", "seed": 5001}
    selected_checkpoint.write_selection(artifacts, "ncsn-1", artifacts / "models/ncsn-1", ABOUT | other)
    told = checkpoint_rule(artifacts, ("ncsn", "ncsn-1"))
    assert "step 20,000 (without denoising), step 40,000 (with denoising)" in told
    assert "seed 5000, 5001" in told
