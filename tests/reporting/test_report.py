"""The whole report: complete, repeatable, with links that lead somewhere, and never half written."""

import ast
import importlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.sampler import Sampler
from pipeline.reporting import cards, tables
from pipeline.reporting.rows import Table

Write = Callable[..., Path]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_everything_is_there_and_every_link_leads_somewhere(reports: Path) -> None:
    page = (reports / "README.md").read_text()
    links = set(re.findall(r"\]\(([^)]+)\)", page))
    named = {"table.md", "table.tex", "table.csv", "table.json", "model_card.md", "index.html"}
    assert named | {"figures/samples.png"} <= links
    assert all((reports / link).stat().st_size > 0 for link in links)
    drawn = {f"figures/{path.name}" for path in (reports / "figures").iterdir()}
    assert drawn <= links, "a figure that the page does not show"


def test_the_page_holds_the_table_and_the_verdict(reports: Path) -> None:
    page, table = (reports / "README.md").read_text(), (reports / "table.md").read_text()
    again = Table.from_json(json.loads((reports / "table.json").read_text()))
    assert tables.markdown(again) == table
    for part in (tables.results_table(again), tables.verdict_lines(again), tables.provenance(again)):
        assert part in page and part in table


def test_the_same_run_gives_the_same_bytes(write: Write, reports: Path) -> None:
    assert files(write()) == files(reports)


def test_what_has_not_run_is_said_with_its_command(write: Write, artifacts: Path) -> None:
    for path in ("tune_sampler/trials.csv", "tune_noise/trials.csv", "samples/ncsn/intermediate.npy"):
        (artifacts / path).unlink()
    page = (write() / "README.md").read_text()
    for stage in ("tune_sampler", "tune_noise", "generate@ncsn", "toy"):
        assert f"not run: `dvc repro {stage}`" in page


def test_a_page_without_any_evaluation_can_be_written(write: Write) -> None:
    out = write("absent")
    assert "not run: `dvc repro evaluate@absent`" in (out / "README.md").read_text()
    assert "No row has been evaluated" in (out / "model_card.md").read_text()


def test_a_failure_leaves_the_old_report(write: Write, artifacts: Path) -> None:
    before = files(write("ncsn"))
    (artifacts / "curves/tuned.csv").write_text("step,images\n1,2\n")
    with pytest.raises(UserError, match=r"tuned\.csv"):
        write()
    assert files(artifacts.parent / "reports") == before
    assert not list(artifacts.parent.glob(".reports*"))


def split_card(text: str) -> tuple[dict[str, Any], str]:
    _, head, body = text.split("---\n", 2)
    return YAML(typ="safe").load(head), body


def test_front_matter_of_the_model_card(reports: Path) -> None:
    head, body = split_card((reports / "model_card.md").read_text())
    table = Table.from_json(json.loads((reports / "table.json").read_text()))
    assert head["license"] == "apache-2.0" and head["datasets"] == ["digits"]
    assert [entry["name"] for entry in head["model-index"]] == ["tuned", "ncsn", "ncsnv2"]
    for entry in head["model-index"]:
        first = entry["name"] == "tuned"  # the best row is one with denoising
        for denoised, result in zip((first, not first), entry["results"], strict=True):
            assert {"task", "dataset", "metrics"} == set(result)
            assert [metric["type"] for metric in result["metrics"]] == head["metrics"]
            for metric in result["metrics"]:
                row = table.row(entry["name"], denoised)
                assert row is not None and metric["value"] == row.value(metric["type"])
                how = "with denoising" if denoised else "without denoising"
                terms = (how, "N=720", "digits, train split", "by CNN, 64 features, accuracy 0.987)")
                assert all(term in metric["name"] for term in terms), metric["name"]
    assert tables.results_table(table) in body


def test_the_program_on_the_card_uses_names_that_exist(reports: Path) -> None:
    card = (reports / "model_card.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", card, re.S)
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names), node.module


def test_the_card_quotes_the_sampler_of_the_best_row(
    build: Callable[..., Table], about: Callable[..., dict[str, Any]]
) -> None:
    row = build().row("tuned", True)
    assert row is not None
    ladder = Ladder(3.25, 0.0125, 11)
    sampler = Sampler.langevin(ladder, step_size=1.5e-5, steps_per_level=7)
    program = cards.usage(row, about(), sampler)
    assert f"Sampler.read({sampler.plain()})" in program
    assert "denoise=True" in program
