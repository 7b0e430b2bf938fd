"""Equivalence of our numbers and the papers', by two one-sided t tests (TOST) against a stated margin.

A paper's number enters as a constant r. No paper states how much it varies from training to training: the ±
behind an inception score is the spread over splits of one set. The margin has to cover this.

References:
    D. J. Schuirmann, A comparison of the two one-sided tests procedure and the power approach for assessing
    the equivalence of average bioavailability, J. Pharmacokinetics and Biopharmaceutics 15 (1987).
"""

from dataclasses import dataclass
from typing import Literal

from pipeline.metrics.measures import measure
from pipeline.reporting.intervals import Interval
from pipeline.reporting.papers import Published, counterpart
from pipeline.reporting.rows import Row, Table, is_whole_split

Outcome = Literal["within", "better", "worse", "inconclusive"]

ALPHA = 0.05
"""Of each one-sided test; two of them make the interval of level 1 - 2 ALPHA."""
PRINTED = ("fid", "inception_score")
"""The measures that papers print."""
ASSUMED_N = 50_000
"""Samples behind a paper's number where it does not say."""


@dataclass(frozen=True)
class AgainstPaper:
    """Comparison of a measure of a row with the number that a paper prints for it."""

    row: Row
    measure: str
    published: str
    """As printed."""
    outcome: Outcome
    interval: tuple[float, float] | None
    """Ours, of level 1 - 2 ALPHA; None where there is none or the terms differ."""
    reason: str | None
    """Why nothing can be concluded, where it is not the interval."""


def against_papers(table: Table) -> tuple[AgainstPaper, ...]:
    """Every measured row that has a paper's number, for each measure it has; () without a margin."""
    if table.margin is None:
        return ()
    rows = [row for row in table.rows if row.measured and not row.is_floor]
    pairs = ((row, counterpart(table.published, row.system, bool(row.denoised))) for row in rows)
    return tuple(
        _judge(row, name, getattr(paper, name), paper, table.margin)
        for row, paper in pairs
        if paper
        for name in PRINTED
        if getattr(paper, name)
    )


def outcome(interval: tuple[float, float], published: float, margin: float, *, higher: bool) -> Outcome:
    """What an interval of level 1 - 2 ALPHA says of r = `published` and d = `margin` r.

    Within where it lies inside (r - d, r + d): both one-sided hypotheses of a difference of d or more are
    rejected. Better or worse where it lies beyond that range. Otherwise inconclusive.

    Args:
        higher: whether larger values are better.
    """
    low, high = published * (1 - margin), published * (1 + margin)
    if low < interval[0] and interval[1] < high:
        return "within"
    if interval[0] > high:
        return "better" if higher else "worse"
    if interval[1] < low:
        return "worse" if higher else "better"
    return "inconclusive"


def number(printed: str) -> float:
    """The number of a cell such as `8.87 ± .12`."""
    return float(printed.split("±")[0])


def _judge(row: Row, name: str, printed: str, paper: Published, margin: float) -> AgainstPaper:
    interval = row.interval(name)
    reason = _other_terms(row, paper) or _unrepeated(interval)
    if reason or interval is None:
        return AgainstPaper(row, name, printed, "inconclusive", None, reason)
    ends = interval.at(1 - 2 * ALPHA)
    found = outcome(ends, number(printed), margin, higher=measure(name).better == "higher")
    return AgainstPaper(row, name, printed, found, ends, None)


def _other_terms(row: Row, paper: Published) -> str | None:
    """The features are those of the papers where the evaluator's name, up to its first `;`, has Inception."""
    if "inception" not in (row.evaluator or "").partition(";")[0].lower():
        return "other features than the papers' Inception"
    needed = paper.n or ASSUMED_N
    if row.n != needed:
        return f"N={row.n:,} against {needed:,}{'' if paper.n else ' (assumed)'}"
    if not is_whole_split(row.reference_set, paper.reference):
        return f"FID against {row.reference_set}, the paper's against the {paper.reference} split"
    return None


def _unrepeated(interval: Interval | None) -> str | None:
    missing = "one training seed and one sampling set: raise `extra_seeds` or `generate.sample_sets`"
    return None if interval else missing


def sentences(table: Table) -> list[str]:
    """The verdicts in words: how they are reached, and a sentence for each measure of a row."""
    judged = against_papers(table)
    if not judged:
        return []
    head = (
        f"Against the papers' numbers, by two one-sided t tests at {ALPHA:.0%}: within is equal up to a "
        f"margin of {table.margin:.0%}, better and worse are beyond it. The papers' numbers count as exact, "
        "since their spread between trainings is unknown: the margin has to cover it."
    )
    return [head, *(_sentence(v) for v in judged)]


def _sentence(verdict: AgainstPaper) -> str:
    row, label = verdict.row, measure(verdict.measure).label
    head = f"`{row.system}` {row.how}, {label}: {verdict.outcome}"
    if verdict.interval is None:
        return f"{head} ({verdict.reason}; the paper: {verdict.published})."
    low, high = verdict.interval
    scope = "" if row.training_seeds != 1 else ", of one network"
    return f"{head} ({low:.2f} to {high:.2f}{scope}; the paper: {verdict.published})."
