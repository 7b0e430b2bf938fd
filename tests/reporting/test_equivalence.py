"""The verdict against a paper's number is two one-sided t tests, and errs as seldom as they do."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.reporting import tables, verdict
from pipeline.reporting.intervals import nested
from pipeline.reporting.papers import published
from pipeline.reporting.rows import Row, Table
from tests.reporting.conftest import estimates

INCEPTION = "Inception-v3; FID: this project"
FIDS = (10.7, 10.8, 10.9)


def row(fids: Sequence[float] = FIDS, **changes: Any) -> Row:
    """NCSNv2 with denoising, for which the paper prints an FID of 10.87."""
    found = nested("fid", [[fid] for fid in fids])
    common = {"n": 50_000, "n_reference": 50_000, "evaluator": INCEPTION, "nfe": 1161}
    counts = {"training_seeds": len(fids), "sampling_sets": 1, "measures": estimates(found)}
    return Row("ncsnv2", True, "c", **(common | counts | changes))  # type: ignore[arg-type]


def judged(ours: Row, margin: float | None = 0.1) -> dict[str, verdict.AgainstPaper]:
    table = Table("cifar10", "", published("cifar10"), (ours,), margin)
    return {found.measure: found for found in verdict.against_papers(table)}


@given(
    st.lists(st.floats(1, 20), min_size=2, max_size=6, unique=True),
    st.sampled_from([(0.1, "fid"), (0.4, "inception_score")]),
)
def test_it_is_two_one_sided_t_tests(values: list[float], case: tuple[float, str]) -> None:
    margin, measure = case
    low, high = 10 * (1 - margin), 10 * (1 + margin)
    found = nested(measure, [[value] for value in values])
    assert found is not None
    higher = measure == "inception_score"
    result = verdict.outcome(found.at(0.9), 10, margin, higher=higher)

    def rejected(bound: float, side: str) -> bool:
        return bool(stats.ttest_1samp(values, bound, alternative=side).pvalue < 0.05)

    expected = "inconclusive"
    if rejected(low, "greater") and rejected(high, "less"):
        expected = "within"
    elif rejected(high, "greater"):
        expected = "better" if higher else "worse"
    elif rejected(low, "less"):
        expected = "worse" if higher else "better"
    assert result == expected


def test_an_fid_against_another_split_is_not_judged() -> None:
    ours = row(n=10_000, reference_set="celeba, train split (162,770 images)")
    (found,) = verdict.against_papers(Table("celeba64", "", published("celeba", 64), (ours,), 0.1))
    assert found.outcome == "inconclusive" and "against the test split" in str(found.reason)
    half = "celeba, the half of the test split that no search judged by (9,981 images)"
    (found,) = verdict.against_papers(
        Table("celeba64", "", published("celeba", 64), (row(n=10_000, reference_set=half),), 0.1)
    )
    assert found.outcome == "inconclusive" and "against celeba, the half of" in str(found.reason)
    ours = row((10.1, 10.2, 10.3), n=10_000, reference_set="celeba, test split (19,962 images)")
    (found,) = verdict.against_papers(Table("celeba64", "", published("celeba", 64), (ours,), 0.1))
    assert (found.outcome, found.published) == ("within", "10.23")
    (found,) = (f for f in judged(row(reference_set="cifar10, train split (50,000 images)")).values() if f.interval)
    assert found.outcome == "within"


def test_a_truth_on_the_edge_of_the_margin_is_rarely_called_within() -> None:
    rng = np.random.default_rng(0)
    edge = 10.87 * 1.1
    calls = [judged(row(list(rng.normal(edge, 0.1, 3))))["fid"].outcome for _ in range(1500)]
    assert 0.03 < np.mean([call == "within" for call in calls]) < 0.07
    assert 0.03 < np.mean([call == "worse" for call in calls]) < 0.07


@pytest.mark.parametrize(
    ("fids", "outcome"),
    [
        (FIDS, "within"),
        ((8.0, 8.1, 8.2), "better"),
        ((13.0, 13.1, 13.2), "worse"),
        ((9.0, 11.0, 13.0), "inconclusive"),
    ],
)
def test_a_lower_fid_is_better(fids: tuple[float, ...], outcome: str) -> None:
    found = judged(row(fids))["fid"]
    assert (found.outcome, found.published, found.reason) == (outcome, "10.87", None)
    low, high = stats.t.interval(0.9, 2, np.mean(fids), stats.sem(fids))
    assert found.interval == pytest.approx((low, high))


def test_a_higher_inception_score_is_better() -> None:
    found = nested("inception_score", [[9.9], [10.0], [10.1]])
    ours = judged(row(measures=estimates(10.8, inception_score=found)))
    assert ours["inception_score"].outcome == "better"
    assert ours["fid"].outcome == "inconclusive", "measured once"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n": 1000}, "N=1,000 against 50,000 (assumed)"),
        ({"evaluator": "CNN width 32; no Inception score here"}, "other features"),
        ({"measures": estimates(10.8)}, "one training seed and one sampling set: raise `extra_seeds` or"),
    ],
)
def test_on_other_terms_or_without_repetition_nothing_is_concluded(changes: dict[str, Any], reason: str) -> None:
    found = judged(row(**changes))["fid"]
    assert (found.outcome, found.interval) == ("inconclusive", None)
    assert found.reason is not None and reason in found.reason


def test_rows_without_a_papers_number_and_tables_without_a_margin_are_not_judged() -> None:
    assert judged(row(), margin=None) == {}
    table = Table(
        "cifar10",
        "",
        published("cifar10"),
        (Row("tuned", True, "c", measures=estimates(1.0), n=50_000),),
        0.1,
    )
    assert verdict.against_papers(table) == () and verdict.paper_sentences(table) == []


def test_the_verdict_stands_in_the_words_the_table_and_the_json() -> None:
    one_network = row(training_seeds=1, sampling_sets=3)
    table = Table("cifar10", "", published("cifar10"), (one_network,), 0.1)
    text = "\n".join(verdict.sentences(table))
    assert "margin of 10%" in text and "count as exact" in text
    assert "`ncsnv2` with denoising, FID: within (10.63 to 10.97, of one network; the paper: 10.87)." in text
    (line,) = [line for line in tables.results_table(table).splitlines() if line.startswith("| `ncsnv2` | yes")]
    assert "| within |" in line
    found = tables.to_json(table)["verdict"]
    assert found["paper_margin"] == 0.1 and found["against_papers"][0]["outcome"] == "within"
