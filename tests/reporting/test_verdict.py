"""The verdict is computed, and computed rightly, on rows whose answer is known."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reporting import verdict
from pipeline.reporting.rows import FLOOR, Row, Table
from tests.reporting.conftest import estimates

MakeRow = Callable[..., Row]
MakeTable = Callable[..., Table]


@pytest.mark.parametrize(
    ("fid", "floor", "within"),
    [
        (2.0, 1.0, True),
        (2.0001, 1.0, False),
        (0.5, 1.0, True),
        (3.0, 1.5, True),
        (None, 1.0, None),
        (2.0, None, None),
    ],
)
def test_within_twice_the_floor(
    make_row: MakeRow, make_table: MakeTable, fid: float | None, floor: float | None, within: bool | None
) -> None:
    table = make_table(make_row("tuned", True, fid), make_row(FLOOR, None, floor))
    assert [v.within for v in verdict.against_floor(table)] == [within]


@pytest.mark.parametrize("change", [{"n": 1000}, {"evaluator": "F"}, {"n_reference": 5}, {"reference_set": "S"}])
def test_a_floor_on_other_terms_is_no_floor(make_row: MakeRow, make_table: MakeTable, change: dict[str, int]) -> None:
    table = make_table(make_row("tuned", True, 1.0), make_row(FLOOR, None, 1.0, **change))
    assert [v.within for v in verdict.against_floor(table)] == [None]
    assert any("no floor at N=720" in text for text in verdict.sentences(table))


def test_each_row_meets_the_floor_of_its_own_count(make_row: MakeRow, make_table: MakeTable) -> None:
    table = make_table(
        make_row("a", True, 3.0, n=720), make_row("b", True, 3.0, n=1000),
        make_row(FLOOR, None, 2.0, n=720), make_row(FLOOR, None, 1.0, n=1000),
    )  # fmt: skip
    assert [v.ratio for v in verdict.against_floor(table)] == [1.5, 3.0]


@pytest.mark.parametrize(
    ("fid", "nfe", "holds"),
    [
        (1.0, 90, True),
        (2.0, 100, True),
        (2.0, 90, True),
        (1.0, 101, False),
        (2.1, 10, False),
        (None, 1, None),
    ],
)
def test_tuned_against_ncsnv2(
    make_row: MakeRow, make_table: MakeTable, fid: float | None, nfe: int, holds: bool | None
) -> None:
    table = make_table(make_row("ncsnv2", True, 2.0), make_row("tuned", True, fid, nfe=nfe))
    assert [v.holds for v in verdict.against_baseline(table)] == [holds]


@pytest.mark.parametrize("change", [{"n": 1000}, {"evaluator": "F"}, {"nfe": None}])
def test_rows_on_other_terms_are_not_compared(make_row: MakeRow, make_table: MakeTable, change: dict[str, int]) -> None:
    table = make_table(make_row("ncsnv2", True, 2.0), make_row("tuned", True, 1.0, **change))
    assert [v.holds for v in verdict.against_baseline(table)] == [None]


def test_denoised_is_compared_with_denoised(make_row: MakeRow, make_table: MakeTable) -> None:
    rows = [
        make_row(s, d, f)
        for s, d, f in (("ncsnv2", False, 1), ("ncsnv2", True, 4), ("tuned", False, 2), ("tuned", True, 3))
    ]
    assert [v.holds for v in verdict.against_baseline(make_table(*rows))] == [False, True]


def test_without_a_tuned_row_there_is_no_comparison(make_row: MakeRow, make_table: MakeTable) -> None:
    assert verdict.against_baseline(make_table(make_row("ncsnv2", True, 2.0))) == ()


@given(st.lists(st.floats(0.01, 1e3), min_size=1, max_size=6), st.floats(0.01, 1e2))
def test_sentences_name_every_row_once_and_on_its_side(fids: list[float], floor: float) -> None:
    common = {"n": 720, "n_reference": 9, "evaluator": "E", "nfe": 1}
    rows = [Row(f"v{i}", True, "c", measures=estimates(fid), **common) for i, fid in enumerate(fids)]  # type: ignore[arg-type]
    table = Table("digits", "", (), (*rows, Row(FLOOR, None, "c", measures=estimates(floor), **common)))  # type: ignore[arg-type]
    near, far = verdict.sentences(table)
    for i, fid in enumerate(fids):
        assert (f"`v{i}`" in near) == (fid / floor <= 2.0) == (f"`v{i}`" not in far)


def test_best_is_nearest_to_its_floor(make_row: MakeRow, make_table: MakeTable) -> None:
    near, far = make_row("near", True, 3.0, n=1000), make_row("far", True, 2.0)
    lonely = make_row("lonely", True, 0.1, evaluator="F")
    floors = make_row(FLOOR, None, 2.9, n=1000), make_row(FLOOR, None, 0.5)
    assert verdict.best(make_table(lonely, far, near, *floors)) == near
    assert verdict.best(make_table(far, lonely)) == lonely
    assert verdict.best(make_table(make_row("a", True, None))) is None
