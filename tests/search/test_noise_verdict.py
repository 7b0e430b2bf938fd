"""Laws of the comparison of noise ranges: who ties, by which noise, and what stands side by side."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.files import write_yaml
from pipeline.reporting.figures.searches import side_by_side
from pipeline.search.noise_verdict import Again, Compared, compare
from pipeline.search.records import FAILED, FINISHED, STOPPED, Settings, TrialRecord


def record(trial: int, fid: float, se: float = 0.1, status: str = FINISHED) -> TrialRecord:
    settings = {"sigma_max": float(trial), "sigma_min": 0.01, "num_levels": 10}
    return TrialRecord(trial, settings, ({"fid": fid, "fid_se": se, "steps": 5},), status)


def drawn(logs: dict[int, Sequence[float]]) -> Again:
    """Trials on further seeds, by their log FIDs."""

    def again(settings: Sequence[Settings]) -> list[list[TrialRecord]]:
        return [[record(9, math.exp(x)) for x in logs[int(one["sigma_max"])]] for one in settings]

    return again


def word(compared: Compared) -> str:
    return str(compared.verdict.tuned_against_analytic)


def test_within_the_noise_of_both_sample_sets_it_is_a_tie() -> None:
    tuned, analytic = record(2, 9.0, se=0.4), record(1, 10.0, se=0.4)
    limit = math.exp(1.959964 * math.hypot(0.4 / 9, 0.4 / 10))
    verdict = compare({"tuned": tuned, "analytic": analytic}, None).verdict
    assert verdict.equal_up_to == pytest.approx(limit) and verdict.noise_of == "samples"
    assert 1 / limit < 0.9 and verdict.tuned_against_analytic == "tie"
    assert word(compare({"tuned": record(2, 9.0), "analytic": record(1, 10.0)}, None)) == "better"
    assert word(compare({"tuned": record(2, 10.0), "analytic": record(1, 9.0)}, None)) == "worse"


def test_the_analytic_choice_ties_with_itself_and_a_failed_one_with_nobody() -> None:
    assert word(compare({"tuned": record(1, 9.0, 0.0), "analytic": record(1, 9.0, 0.0)}, None)) == "tie"
    for status in (FAILED, STOPPED):
        lost = record(1, 10.0, status=status)
        assert word(compare({"tuned": record(2, 9.0), "analytic": lost}, None)) == "unknown"


def test_further_seeds_overrule_the_luck_of_one() -> None:
    choices = {"tuned": record(2, 5.0), "analytic": record(1, 10.0), "ncsn": record(3, 6.0)}
    assert word(compare(choices, None)) == "better"
    noisy = compare(choices, drawn({2: [2.0, 2.6], 1: [2.5, 2.1], 3: [2.0, 2.4]}))
    assert word(noisy) == "tie" and noisy.verdict.noise_of == "seeds"
    assert noisy.verdict.degrees_of_freedom == 3 and set(noisy.again) == {1, 2, 3}
    assert noisy.lines["tuned"].fid_again == pytest.approx(math.exp(2.3))
    steady = {2: [2.0, 2.01], 1: [2.3, 2.31], 3: [2.0, 2.01]}
    assert word(compare(choices, drawn(steady))) == "better"
    assert word(compare(choices, drawn({**steady, 2: [2.6, 2.61]}))) == "worse"


def test_the_starting_points_that_it_does_not_beat_are_named_the_best_first() -> None:
    choices = {"tuned": record(2, 5.0), "analytic": record(1, 9.0), "ncsn": record(3, 6.0), "lost": record(4, 9.0)}
    choices["lost"] = record(4, 5.0, status=FAILED)
    assert compare(choices, None).verdict.no_better_than == ()
    wide = {2: [2.0, 2.6], 1: [2.5, 2.1], 3: [2.0, 2.5]}
    assert compare(choices, drawn(wide)).verdict.no_better_than == ("ncsn", "analytic")
    steady = {2: [2.0, 2.01], 1: [2.3, 2.31], 3: [2.0, 2.01]}
    assert compare(choices, drawn(steady)).verdict.no_better_than == ("ncsn",)
    itself = {"tuned": record(3, 6.0), "analytic": record(1, 9.0), "ncsn": record(3, 6.0)}
    assert compare(itself, None).verdict.no_better_than == ("ncsn",)


def test_what_is_one_range_is_trained_again_once() -> None:
    asked: list[int] = []

    def again(settings: Sequence[Settings]) -> list[list[TrialRecord]]:
        asked.extend(int(one["sigma_max"]) for one in settings)
        return [[record(9, 9.0), record(9, 9.1)] for _ in settings]

    same = record(1, 10.0)
    compare({"tuned": record(2, 9.0), "analytic": same, "ncsnv2": same}, again)
    assert asked == [2, 1]


def test_the_report_has_them_side_by_side(tmp_path: Path) -> None:
    path, same = tmp_path / "best.yaml", record(1, 55.06)
    assert side_by_side(path) == ""
    choices = {"tuned": record(5, 24.74), "analytic": same, "ncsnv2": same, "ncsn": record(2, 27.5)}
    made = compare(choices, None)
    plain = {name: line.plain() for name, line in made.lines.items()}
    write_yaml(path, {**plain, "verdict": made.verdict.plain()})
    said = side_by_side(path)
    assert "`analytic`, `ncsnv2`: σ from 1 to 0.01 on 10 levels, FID 55.1; `ncsn`: σ from 2 to" in said
    assert "found: σ from 5 to 0.01 on 10 levels, FID 24.7." in said
    assert "0.449 times the FID of the analytic choice" in said
    assert said.endswith("noise of the samples: **better**.")
    write_yaml(path, {**plain, "verdict": {**made.verdict.plain(), "no_better_than": ["ncsn", "ncsnv2"]}})
    assert side_by_side(path).endswith("**better**. It is no better than `ncsn`, `ncsnv2`.")
    write_yaml(path, {**plain, "verdict": {"tuned_against_analytic": "unknown"}})
    assert side_by_side(path).endswith("FID 24.7.")
