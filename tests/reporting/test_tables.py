"""Laws of the table: its three formats agree, nothing is mixed and nothing is left blank."""

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.files import write_json
from pipeline.git import Commit
from pipeline.metrics.measures import measures
from pipeline.ncsn.errors import UserError
from pipeline.reporting import tables
from pipeline.reporting.read_table import read_table
from pipeline.reporting.rows import Estimate, Row, Table

COLUMNS = {
    "KID": ("kid", "kid_std"),
    "IS": ("inception_score", "inception_score_std"),
    "Precision": ("precision",),
    "Recall": ("recall",),
    "Density": ("density",),
    "Coverage": ("coverage",),
    "N": ("n",),
    "NFE": ("nfe",),
    "s / 1,000 samples": ("seconds_per_1000",),
}
Build = Callable[..., Table]


def parsed(markdown: str) -> list[dict[str, str]]:
    """The first table of a Markdown text as its rows, title -> cell."""
    lines = [line for line in markdown.split("\n\n")[0].splitlines() if line.startswith("|")]
    split = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [dict(zip(split[0], line, strict=True)) for line in split[2:]]


def equal_as_printed(printed: str, value: float | None) -> bool:
    """Whether a printed number is the value rounded to the digits that are printed."""
    if value is None:
        return printed == "–"
    digits = printed.replace(",", "").strip("*")
    places = len(digits.partition(".")[2])
    return digits == f"{value:.{places}f}"


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """A row of table.json with its measures as NAME, NAME_std and so on."""
    measured = {
        name if end == "value" else f"{name}_{end}": value
        for name, estimate in row["measures"].items()
        for end, value in estimate.items()
        if value is not None and end != "interval"
    }
    return {key: value for key, value in row.items() if key != "measures"} | measured


def in_json(table: Table) -> dict[str, Any]:
    return dict(json.loads(json.dumps(tables.to_json(table), allow_nan=False)))


@pytest.mark.parametrize(("name", "size"), [("digits", 8), ("cifar10", 32), ("celeba", 64)])
def test_json_gives_the_table_back(build: Build, name: str, size: int) -> None:
    table = build(name, size)
    assert Table.from_json(in_json(table)) == table


@pytest.mark.parametrize(("name", "size"), [("digits", 8), ("cifar10", 32)])
def test_every_number_in_markdown_is_the_json_number_as_printed(build: Build, name: str, size: int) -> None:
    table = build(name, size)
    values, lines = in_json(table), parsed(tables.results_table(table))
    ours = lines[len(values["published"]) :]
    assert len(ours) == len(values["rows"]) == 7
    for line, row in zip(ours, values["rows"], strict=True):
        assert line["System"].strip("`") == row["system"]
        cells = flat(row)
        assert equal_as_printed(line["FID (N=720)"], cells.get("fid"))
        for title, fields in COLUMNS.items():
            for printed, field in zip(line[title].split(" ± "), fields, strict=True):
                assert equal_as_printed(printed, cells.get(field)), (title, line)


def test_csv_has_the_json_values_at_full_precision(build: Build) -> None:
    table = build("cifar10", 32)
    lines = list(csv.DictReader(io.StringIO(tables.to_csv(table))))
    ours = [line for line in lines if line["kind"] != "published"]
    apart = ("fid", "not_run")
    for line, json_row in zip(ours, in_json(table)["rows"], strict=True):
        row = flat(json_row)
        assert not json_row["measures"] or float(line["fid_n720"]) == row["fid"]
        texts = {key: json.dumps(value) if isinstance(value, list) else value for key, value in row.items()}
        assert all(line[key] == str("" if texts[key] is None else texts[key]) for key in row if key not in apart)
    assert [line["published_fid"] for line in lines if line["system"] == "NCSN"] == ["25.32"]


def test_paper_rows_stand_verbatim_above_ours(build: Build) -> None:
    table = build("cifar10", 32)
    lines = parsed(tables.results_table(table))
    for line, paper in zip(lines, table.published, strict=False):
        assert line["System"] == f"{paper.model} ({paper.source})"
        assert (line["Paper's FID"], line["Paper's IS"]) == (paper.fid or "–", paper.inception_score or "–")
    ours = {(line["System"], line["Denoising"]): line for line in lines[len(table.published) :]}
    assert ours["`ncsnv2`", "yes"]["Paper's FID"] == "10.87"
    assert ours["`ncsn`", "no"]["Paper's IS"] == "8.87 ± .12"
    assert ours["`tuned`", "yes"]["Paper's FID"] == "–"


def test_a_data_set_without_published_numbers_says_so(build: Build) -> None:
    text = tables.results_table(build("digits", 8))
    assert tables.NONE_PUBLISHED in text
    assert not [title for title in parsed(text)[0] if "Paper" in title], "a column without a number"


def test_a_row_without_evaluation_is_not_run_and_names_the_command(build: Build) -> None:
    table = build(rows=("ncsn", "absent"))
    line = next(line for line in parsed(tables.results_table(table)) if line["System"] == "`absent`")
    assert line["FID (N=720)"] == "not run: `dvc repro evaluate@absent`"
    assert all(line[title] == "–" for title in COLUMNS)
    assert "`absent` with denoising was not run" in tables.verdict_lines(table)


def test_a_table_of_nothing_still_says_what_to_run(build: Build) -> None:
    lines = parsed(tables.results_table(build(rows=("absent",))))
    assert [line["FID"] for line in lines] == ["not run: `dvc repro evaluate@absent`"] * 2


def test_fids_of_different_sample_counts_never_share_a_column(
    build: Build, artifacts: Path, run_again: Callable[..., None]
) -> None:
    run_again(artifacts, "ncsn", n=1000)
    table = build()
    lines = parsed(tables.results_table(table))
    for line, row in zip(lines, table.rows, strict=True):
        used = {title for title in line if title.startswith("FID (") and line[title] != "–"}
        assert used == {f"FID (N={row.n:,})"}
    header = tables.to_csv(table).splitlines()[0].split(",")
    assert [name for name in header if re.fullmatch(r"fid(_n\d+)?", name)] == ["fid_n720", "fid_n1000"]


def test_each_floor_is_a_row_once(build: Build, artifacts: Path, run_again: Callable[..., None]) -> None:
    assert [row.n for row in build().floors()] == [720]
    run_again(artifacts, "ncsn", n=1000)
    assert [row.n for row in build().floors()] == [1000, 720]


def test_rows_carry_their_provenance(build: Build) -> None:
    table = build()
    for row in table.rows:
        assert (row.commit, row.dirty, row.data_sha256) == (
            "0123456789abcdef0123456789abcdef01234567",
            True,
            "3f1c" * 16,
        )
    assert {row.run_id for row in table.rows if row.system == "tuned"} == {"a1b2c3"}
    text = tables.provenance(table)
    assert "0123456789+dirty" in text and "3f1c3f1c3f1c |" in text and "a1b2c3" in text
    assert text.count("CNN, 64 features") == 1, "an evaluator that all rows share is named once"


def test_an_evaluator_of_its_own_is_named_in_the_row(build: Build, artifacts: Path) -> None:
    path = artifacts / "evaluation/ncsn.json"
    path.write_text(path.read_text().replace("CNN, 64 features", "another"))
    text = tables.provenance(build())
    assert "| Evaluator |" in text and text.count("another") == 3


@pytest.mark.parametrize("missing", ["fid", "kid_std", "evaluator", "n_reference"])
def test_a_metric_that_is_missing_is_named(build: Build, artifacts: Path, missing: str) -> None:
    path = artifacts / "evaluation/tuned.json"
    value = json.loads(path.read_text())
    del value["denoised"][missing]
    write_json(path, value)
    with pytest.raises(UserError, match=f"tuned.json.*'{missing}'"):
        build()


def test_metrics_without_samples_are_an_error(build: Build, artifacts: Path) -> None:
    (artifacts / "samples/tuned/manifest.json").unlink()
    with pytest.raises(UserError, match=r"samples/tuned/manifest\.json"):
        build()


def test_the_headline_is_the_fid_and_cost_of_each_measured_row(build: Build) -> None:
    found = build(rows=("tuned", "absent")).headline()
    assert found == {
        "fid/tuned/raw": 3.1072,
        "fid/tuned/denoised": 1.7342,
        "fid/floor": 1.4713,
        "nfe/tuned/raw": 80,
        "nfe/tuned/denoised": 81,
    }


def test_cost_is_as_counted(build: Build) -> None:
    row = build().row("ncsn", True)
    assert row is not None and row.nfe == 1001
    assert row.seconds_per_1000 == pytest.approx(66.1 / 720 * 1000, rel=1e-12)


def test_without_git_the_table_says_so(artifacts: Path, about: Callable[..., dict[str, Any]]) -> None:
    table = read_table(artifacts, {"tuned": "tuned"}, about(), Commit(None))
    assert "no git checkout" in tables.provenance(table)


def test_the_evaluators_selftest_stands_in_the_report(artifacts: Path, build: Build) -> None:
    assert "self-test" not in tables.provenance(build())
    numbers = {"expected": 1.0, "found": 1.5, "tolerance": 0.25}
    checks = [{"name": "KID", "passed": True} | numbers, {"name": "FID", "passed": False} | numbers]
    write_json(artifacts / "features/selftest.json", checks)
    table = build()
    assert "- The evaluator's self-test: 1 of 2 known answers" in tables.provenance(table)
    assert Table.from_json(in_json(table)) == table


def test_an_empty_cell_of_bits_per_dim_has_its_reason_below_the_table(
    make_row: Callable[..., Row], make_table: Callable[..., Table]
) -> None:
    reason = "this network is conditional on its levels"
    one, other = make_row("ncsn", True, 2.0), make_row("edm", True, 2.0)
    none = (Estimate("fid_infinity", 1.0), Estimate("bits_per_dim", None, note=reason))
    one = replace(one, measures=(*one.measures, *none))
    other = replace(other, measures=(*other.measures, Estimate("bits_per_dim", 1.5, note="by the ODE")))
    told = tables.results_table(make_table(one, replace(one, denoised=False), other))
    assert told.count(f"- Bits / dim of `ncsn`: none, {reason}.") == 1 and "by the ODE" not in told
    assert "first training seed" not in told


def test_an_evaluator_that_tells_no_classes_leaves_a_column_and_its_reason(build: Build, artifacts: Path) -> None:
    reason = "There is no IS, since the evaluator's network knows no classes."
    assert reason not in tables.results_table(build())
    for path in (artifacts / "evaluation").iterdir():
        value = json.loads(path.read_text())
        for block in ("raw", "denoised", "floor"):
            value[block] |= {"inception_score": None, "inception_score_std": None}
        write_json(path, value)
    table = build()
    text = tables.results_table(table)
    assert reason in text and "splits" not in text and not any("IS" in line for line in parsed(text))
    assert Table.from_json(in_json(table)) == table


def test_a_row_names_its_network_where_that_has_another_name(
    artifacts: Path, about: Callable[..., dict[str, Any]]
) -> None:
    table = read_table(artifacts, {"ncsn": "ncsn", "tuned": "ncsnv2"}, about(), Commit(None))
    lines = tables.results_table(table).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:6]] == [
        "| `ncsn`",
        "| `ncsn`",
        "| `tuned` (network `ncsnv2`)",
        "| `tuned` (network `ncsnv2`)",
    ]
    assert table.drawn() == {"ncsn": "ncsn", "tuned": "ncsnv2"}
    assert Table.from_json(in_json(table)) == table


def test_every_measure_is_named_with_its_source_and_which_way_is_better() -> None:
    text = tables.measures_table()
    assert all(f"| {one.label} | {one.better} | {one.source} |" in text for one in measures())
    assert "| FID | lower | arXiv 1706.08500, equation 6 |" in text
