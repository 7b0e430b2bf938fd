"""The command that keeps a run's tables and figures among the published results."""

import shutil
from pathlib import Path

import pytest

from pipeline.commands.publish_results import COPIED, MADE_BY, main
from pipeline.reporting.rows import Table
from tests.reporting.conftest import write_report, write_run


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    return write_report(write_run(root / "artifacts"), root / "reports")


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_copies_tables_and_figures_and_writes_a_page(written: Path, tmp_path: Path) -> None:
    out = tmp_path / "results/digits"
    assert main([str(written), str(out), "--figures", "samples"]) == 0
    found, source = tree(out), tree(written)
    assert found.keys() == {*COPIED, "README.md", "figures/samples.png"}
    assert all(found[name] == source[name] for name in found if name != "README.md")
    page = found["README.md"].decode()
    assert page.startswith(MADE_BY) and "| `tuned` | yes |" in page and "](figures/samples.png)" in page
    assert Table.read(out / "table.json") == Table.read(written / "table.json")


def test_again_it_renews_what_it_wrote_and_the_figures_that_are_there(written: Path, tmp_path: Path) -> None:
    out = tmp_path / "digits"
    assert main([str(written), str(out), "--figures", "samples"]) == 0
    first = tree(out)
    for path in (out / "figures/samples.png", out / "table.md"):
        path.write_bytes(b"old")
    (out / "README.md").write_text(f"{MADE_BY}\nold\n")
    assert main([str(written), str(out)]) == 0
    assert tree(out) == first


def test_a_page_written_by_hand_is_left(written: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# By hand\n")
    assert main([str(written), str(tmp_path)]) == 0
    assert (tmp_path / "README.md").read_text() == "# By hand\n"


@pytest.mark.parametrize("lost", ["table.json", "settings.json", "figures/loss.png"])
def test_a_missing_file_is_one_error_and_nothing_is_written(
    lost: str, written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reports, out = tmp_path / "reports", tmp_path / "out"
    shutil.copytree(written, reports)
    (reports / lost).unlink()
    assert main([str(reports), str(out), "--figures", "loss"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and lost in said and "dvc repro" in said and said.count("\n") == 1
    assert not out.exists()
