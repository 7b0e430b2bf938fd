"""What a row is scored against: named where it stands, and never taken for another set."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.files import write_json
from pipeline.git import Commit
from pipeline.reporting import tables, verdict
from pipeline.reporting.read_table import Terms, described, read_table
from pipeline.reporting.rows import FLOOR, TRAIN_FLOOR, Table, is_whole_split

SOURCES = {"test": None, "held-out": [3, 5]}
UNSEEN = "held_out_unseen"


@pytest.mark.parametrize("split", ["test", "held-out"])
def test_the_words_of_each_reference(split: str) -> None:
    manifest = {"name": "celeba", "split": {"held_out_source_rows": SOURCES[split]}}
    known = {
        reference: described(Terms(10, 19_962, "E", reference), manifest) for reference in ("train", "held_out", UNSEEN)
    }
    assert known == {
        "train": "celeba, train split (19,962 images)",
        "held_out": f"celeba, {split} split (19,962 images)",
        UNSEEN: f"celeba, the half of the {split} split that no search judged by (19,962 images)",
    }
    assert [is_whole_split(known[name], "train") for name in known] == [True, False, False]
    assert [is_whole_split(known[name], "test") for name in known] == [False, split == "test", False]


@pytest.fixture
def held_out(artifacts: Path, about: Callable[..., dict[str, Any]]) -> Callable[[], Table]:
    """A table against held-out images: `tuned`, which a search chose, against the half of them."""

    def built() -> Table:
        for row, reference, count in (("ncsnv2", "held_out", 360), ("tuned", UNSEEN, 180)):
            path = artifacts / f"evaluation/{row}.json"
            known = json.loads(path.read_text())
            terms = {"reference": reference, "n_reference": count}
            write_json(path, known | {key: known[key] | terms for key in ("raw", "denoised", "floor")})
        manifest = about() | {"split": {"held_out_source_rows": None}}
        return read_table(artifacts, {"ncsnv2": "ncsnv2", "tuned": "tuned"}, manifest, Commit(None))

    return built


def test_each_reference_has_a_floor_and_a_column_of_its_own(held_out: Callable[[], Table]) -> None:
    table = held_out()
    assert [(row.system, row.n_reference) for row in table.floors()] == [
        (TRAIN_FLOOR, 360),
        (TRAIN_FLOOR, 180),
    ]
    assert [v.floor.n_reference for v in verdict.against_floor(table) if v.floor] == [360, 360, 180, 180]
    head, *_ = tables.results_table(table).splitlines()
    assert "FID (N=720; digits, test split (360 images))" in head
    assert "FID (N=720; digits, the half of the test split that no search judged by (180 images))" in head
    assert "| Reference set |" in tables.provenance(table) and FLOOR not in tables.results_table(table)


def test_a_searched_row_is_not_compared_across_references(held_out: Callable[[], Table]) -> None:
    said = "\n".join(verdict.sentences(held_out()))
    assert "unknown, since there are no two evaluations on the same terms" in said
