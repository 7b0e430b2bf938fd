"""The command that compares a run with a published one: what it reads, prints and refuses."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.commands.compare import main
from pipeline.files import write_json
from pipeline.reporting import tables
from tests.reporting.test_reproduction import made, reference, row, table


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """The report of a run, and a published one of three trainings."""
    rng = np.random.default_rng(0)
    reports, published = tmp_path / "reports", tmp_path / "published"
    write_json(reports / "table.json", tables.to_json(table(row("ncsn", made(rng, (1, 1))))))
    write_json(published / "table.json", tables.to_json(reference(rng)))
    return reports, published


def test_it_prints_a_verdict_for_each_row(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(list(map(str, folders))) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("Margin: 40%")
    assert [line.split("  ")[1].strip() for line in lines[4:]] == ["reproduced"]


def test_the_margin_is_an_option(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*map(str, folders), "--margin", "0.01"]) == 0
    out = capsys.readouterr().out
    assert "Margin: 1%" in out and "cannot tell" in out and " reproduced " not in out


def test_settings_next_to_the_tables_are_compared(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, steps in zip(folders, (640, 370), strict=True):
        write_json(folder / "settings.json", {"ncsn": {"train": {"steps": steps}}})
    assert main(list(map(str, folders))) == 0
    assert "cannot tell     other settings: train.steps 640 against 370" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, "{}", "[", '{"rows": [{"system": "ncsn"}], "published": []}'])
def test_a_folder_without_a_table_is_one_error(
    content: str | None, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = folders[1] / "table.json"
    path.unlink() if content is None else path.write_text(content)
    assert main(list(map(str, folders))) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and str(path) in said.err and said.err.count("\n") == 1


@pytest.mark.parametrize("margin", ["0", "1", "-0.1", "nan", "much"])
def test_a_margin_is_between_0_and_1(
    margin: str, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, folders), f"--margin={margin}"])
    assert stopped.value.code == 2 and margin in capsys.readouterr().err
