"""Rows over training seeds and sampling sets: every number is used once, and none that does not belong."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from pipeline.files import write_json
from pipeline.git import Commit
from pipeline.reporting import tables, verdict
from pipeline.reporting.read_table import read_table
from pipeline.reporting.rows import Row, Table

Evaluation = dict[str, Any]
MEMORISED = "memorisation_pixels"
FURTHER = ("fid_infinity", MEMORISED, "bits_per_dim")


@pytest.fixture
def repeat(artifacts: Path) -> Callable[..., None]:
    """Write the evaluation of ROW or ROW-SEED with these FIDs of its sets."""

    def write(network: str, fids: list[float], **changes: Any) -> None:
        known = json.loads((artifacts / f"evaluation/{network.split('-')[0]}.json").read_text())
        blocks = [known["denoised"] | {"fid": fid, "kid": fid / 100} | changes for fid in fids]
        further = {"raw": blocks[1:], "denoised": blocks[1:]}
        both = {"raw": blocks[0], "denoised": blocks[0], "further_sets": further}
        write_json(artifacts / f"evaluation/{network}.json", known | both)

    return write


@pytest.fixture
def table(artifacts: Path, about: Callable[..., Evaluation]) -> Callable[..., Table]:
    def built(*extra_seeds: int, rows: tuple[str, ...] = ("ncsn", "tuned"), **options: Any) -> Table:
        manifest = about(*options.get("data", ("digits", 8)))
        networks = {row: "ncsn" if row == "ncsn_paper" else row for row in rows}
        return read_table(artifacts, networks, manifest, Commit(None), extra_seeds=extra_seeds, margin=0.1)

    return built


def row(table: Table, system: str = "tuned") -> Row:
    found = table.row(system, True)
    assert found is not None
    return found


def test_a_row_is_the_mean_over_seeds_and_sets(repeat: Callable[..., None], table: Callable[..., Table]) -> None:
    for network, fids in (("tuned", [1.0, 3.0]), ("tuned-4", [5.0, 7.0]), ("tuned-9", [9.0, 11.0])):
        repeat(network, fids)
    made = row(table(4, 9))
    assert (made.fid, made.value("kid"), made.training_seeds, made.sampling_sets) == (
        6,
        pytest.approx(0.06),
        3,
        2,
    )
    interval = made.interval("fid")
    assert interval is not None and (interval.mean, interval.dof) == (6, 2)
    assert (interval.low, interval.high) == pytest.approx(stats.t.interval(0.95, 2, 6, (16 / 3) ** 0.5))
    assert {found.measure for found in made.measures if found.interval} >= {
        "fid",
        "kid",
        "inception_score",
        "coverage",
    }
    assert row(table(4)).fid == 4, "a seed that is not asked for is not in the table"
    assert row(table()).fid == 2 and row(table()).training_seeds == 1


def test_a_row_measured_once_has_no_interval_and_the_table_says_so(table: Callable[..., Table]) -> None:
    made = table()
    assert not row(made).repeated and row(made).fid == 1.7342
    assert "One training seed and one sampling set, so that no interval" in tables.results_table(made)


def test_what_the_intervals_are_over_is_said(repeat: Callable[..., None], table: Callable[..., Table]) -> None:
    repeat("tuned", [1.0, 2.0, 4.0])
    text = tables.results_table(table(rows=("tuned",)))
    assert "1 training seed of 3 sampling sets each" in text and "one training seed alone" in text
    repeat("tuned-1", [1.0, 2.0, 4.0])
    assert "intervals over training seeds and sampling sets;" in tables.results_table(table(1, rows=("tuned",)))


def test_a_seed_that_was_not_run_is_named_with_its_command(
    repeat: Callable[..., None], table: Callable[..., Table]
) -> None:
    repeat("tuned-1", [2.0])
    made = table(1, 2)
    assert row(made).not_run == ("dvc repro evaluate_more@tuned-2",)
    assert row(made).training_seeds == 2 and row(made, "ncsn").training_seeds == 1
    said = verdict.sentences(made)
    commands = {f"evaluate_more@{name}" for name in ("tuned-2", "ncsn-1", "ncsn-2")}
    assert {command for command in commands if sum(command in text for text in said) == 1} == commands
    assert "over at most 2 training seeds" in tables.results_table(made)


@pytest.mark.parametrize(
    "stale", [{"n": 1000}, {"evaluator": "another"}, {"n_reference": 5}, {"reference": "held_out"}, {}]
)
def test_a_seed_on_other_terms_is_not_averaged(
    repeat: Callable[..., None], table: Callable[..., Table], stale: dict[str, Any]
) -> None:
    repeat("tuned-1", [2.0] if stale else [2.0, 3.0], **stale)
    made = row(table(1))
    assert (made.fid, made.training_seeds) == (1.7342, 1)
    assert made.not_run == ("dvc repro evaluate_more@tuned-1",)


@pytest.mark.parametrize(("fids", "least"), [([3.0, 2.0], None), ([3.0, 2.0, 4.0, 1.0], 2.0)])
def test_the_minimum_of_three_is_of_three_sets_of_one_network(
    repeat: Callable[..., None], table: Callable[..., Table], fids: list[float], least: float | None
) -> None:
    repeat("tuned", fids)
    repeat("tuned-1", [0.5] * len(fids))
    made = table(1)
    assert row(made).fid_minimum_of_three == least
    assert ("FID, minimum of three sets (as EDM)" in tables.results_table(made)) == (least is not None)


def test_repeated_rows_survive_json_and_stand_in_the_csv(
    repeat: Callable[..., None], table: Callable[..., Table]
) -> None:
    repeat("tuned", [1.0, 2.0])
    made = table()
    assert Table.from_json(json.loads(json.dumps(tables.to_json(made)))) == made
    lines = csv.DictReader(io.StringIO(tables.to_csv(made)))
    (cells,) = [line for line in lines if (line["system"], line["denoised"]) == ("tuned", "True")]
    interval = row(made).interval("fid")
    assert interval is not None
    assert float(cells["fid_low"]) == interval.low and float(cells["fid_high"]) == interval.high


def test_the_step_in_the_papers_form_is_compared_or_named_as_not_run(
    repeat: Callable[..., None], artifacts: Path, table: Callable[..., Table]
) -> None:
    said = "\n".join(verdict.sentences(table()))
    assert "`dvc exp run -S '+rows.ncsn_paper=ncsn'`" in said
    for kind in ("evaluation/{}.json", "samples/{}/manifest.json", "metrics/generate_{}.json"):
        (artifacts / kind.format("ncsn_paper")).parent.mkdir(exist_ok=True)
        (artifacts / kind.format("ncsn_paper")).write_text((artifacts / kind.format("ncsn")).read_text())
    repeat("ncsn_paper", [3.0])
    said = "\n".join(verdict.sentences(table(rows=("ncsn", "ncsn_paper"))))
    assert "FID is lower, with denoising (3.000 against 18.908)" in said and "+rows" not in said


def test_a_papers_row_that_is_not_among_ours_was_not_run(table: Callable[..., Table]) -> None:
    made = table(data=("cifar10", 32))
    assert row(made, "ncsnv2").published_fid == "10.87" and not row(made, "ncsnv2").measured
    assert row(made, "ncsnv2").command == ("dvc exp run -S 'networks=[ncsn,tuned,ncsnv2]' -S '+rows.ncsnv2=ncsnv2'")


def test_further_measures_have_a_table_of_their_own(artifacts: Path, table: Callable[..., Table]) -> None:
    assert "Bits / dim" not in tables.results_table(table())
    path = artifacts / "evaluation/tuned.json"
    known = json.loads(path.read_text())
    known["raw"] |= {
        "fid_infinity": 2.512,
        "fid_infinity_stderr": 0.034,
        "memorisation_pixels": {"ratio": 0.98765, "low": 0.97, "high": 1.01},
    }
    known["bits_per_dim"] = {"mean": 3.456, "stderr": 0.012, "n": 64, "nfe": 100, "how": "Hutchinson"}
    write_json(path, known)
    made = table()
    raw = made.row("tuned", False)
    assert raw is not None and raw.value("fid_infinity") == 2.512 and raw.estimate(MEMORISED).high == 1.01
    (line,) = [line for line in tables.results_table(made).splitlines() if "2.512" in line]
    assert "2.512 ± 0.034" in line and "0.988 [0.970, 1.010]" in line and "3.456 ± 0.012" in line
    assert "not measured" in line, "in features"
    assert "intervals over" not in tables.results_table(made), "measured once"
    del known["bits_per_dim"]
    write_json(path, known | {"bits_per_dim": {"not_measured": "no ODE"}})
    found = row(table()).estimate("bits_per_dim")
    assert (found.value, found.note) == (None, "no ODE")


@pytest.fixture
def beside(artifacts: Path, repeat: Callable[..., None]) -> Callable[..., None]:
    """Write a network's evaluation with a FID at infinity for each set, ratios of a tenth of it, and bits."""

    def write(network: str, values: list[float | None], bits: float | None = None) -> None:
        repeat(network, [2.0] * len(values))
        path = artifacts / f"evaluation/{network}.json"
        known = json.loads(path.read_text())
        for block, value in zip([known["denoised"], *known["further_sets"]["denoised"]], values, strict=True):
            ratio = {"ratio": value and value / 10, "low": value and value / 11, "high": value and value / 9}
            block |= {"fid_infinity": value, "fid_infinity_stderr": value and 0.034, MEMORISED: ratio}
        write_json(path, known | ({"bits_per_dim": {"mean": bits, "stderr": 0.012}} if bits else {}))

    return write


def test_further_measures_have_the_intervals_of_the_others(
    beside: Callable[..., None], table: Callable[..., Table]
) -> None:
    for network, values, bits in (("tuned", [1.0, 3.0], 3.0), ("tuned-4", [5.0, 7.0], 4.0)):
        beside(network, values, bits)
    made = row(table(4))
    assert [made.value(name) for name in FURTHER] == [4, pytest.approx(0.4), 3.5]
    for name, scale, mean, stderr in (
        ("fid_infinity", 1, 4, 2),
        (MEMORISED, 10, 4, 2),
        ("bits_per_dim", 1, 3.5, 0.5),
    ):
        interval = made.interval(name)
        assert interval is not None and interval.dof == 1
        ends = stats.t.interval(0.95, 1, mean, stderr)
        assert (scale * interval.low, scale * interval.high) == pytest.approx(ends)
    found = made.estimate(MEMORISED)
    assert found.interval and (found.low, found.high) == (found.interval.low, found.interval.high)
    text = tables.results_table(table(4))
    assert "4.0 [-21.4, 29.4]" in text and "3.50 [-2.85, 9.85]" in text
    assert "0.400 [-2.141, 2.941]" in text and "over training seeds alone." in text
    assert "first training seed" not in text
    assert Table.from_json(json.loads(json.dumps(tables.to_json(table(4))))) == table(4)
    head = tables.to_csv(table(4)).splitlines()[0].split(",")
    assert len(head) == len(set(head)) and {"fid_infinity_low", f"{MEMORISED}_low"} <= set(head)


def test_bits_per_dim_of_one_network_have_their_own_error(
    beside: Callable[..., None], table: Callable[..., Table]
) -> None:
    beside("tuned", [1.0, 3.0], 3.0)
    made = row(table())
    assert made.interval("bits_per_dim") is None and made.interval("fid_infinity") is not None
    assert "3.000 ± 0.012" in tables.results_table(table())


def test_what_one_set_lacks_has_no_mean(beside: Callable[..., None], table: Callable[..., Table]) -> None:
    beside("tuned-4", [5.0, 7.0])  # first: what is in the other's file would be in this one's too
    beside("tuned", [1.0, None], 3.0)
    made = row(table(4))
    assert [made.value(name) for name in FURTHER] == [None] * 3
    assert made.estimate(MEMORISED).low is None and made.interval("fid_infinity") is None
