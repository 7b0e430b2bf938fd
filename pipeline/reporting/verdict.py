"""Verdict on the table, computed from its rows: against the floor, the baseline and the papers' numbers.

Against a paper by two one-sided t tests (TOST) with a stated margin. Its number enters as a constant r: no paper
states its spread between trainings (the ± of an inception score is over splits), so the margin has to cover it.

References:
    D. J. Schuirmann, A comparison of the two one-sided tests procedure and the power approach for assessing
    the equivalence of average bioavailability, J. Pharmacokinetics and Biopharmaceutics 15 (1987).
"""

from dataclasses import dataclass
from typing import Literal

from pipeline.metrics.measures import measure
from pipeline.reporting.intervals import Interval
from pipeline.reporting.papers import Published, counterpart
from pipeline.reporting.rows import Row, Table, is_whole_split, with_row

Outcome = Literal["within", "better", "worse", "inconclusive"]
ALPHA = 0.05
"""Of each one-sided test; two of them make the interval of level 1 - 2 ALPHA."""
PRINTED = ("fid", "inception_score")
"""The measures that papers print."""
ASSUMED_N = 50_000
"""Samples assumed for a paper's number that states none."""
MARGIN = 2.0
"""A row is close to the data when its FID is at most this many times the floor's."""
CHALLENGERS, BASELINE = ("tuned", "tuned_fewest"), "ncsnv2"
RELEASED, PAPER = "ncsn", "ncsn_paper"
"""Rows of one network, with its step size as released and as the paper writes it."""


@dataclass(frozen=True)
class AgainstFloor:
    """Comparison of a row's FID with the floor's, the FID of real images at the same N."""

    row: Row
    floor: Row | None
    """The floor measured with as many images, one evaluator and reference; None where there is none."""

    @property
    def ratio(self) -> float | None:
        """FID / floor's FID; None where either is missing or the floor is not positive."""
        if self.row.fid is None or self.floor is None or not self.floor.fid or self.floor.fid < 0:
            return None
        return self.row.fid / self.floor.fid

    @property
    def within(self) -> bool | None:
        """Whether the ratio is at most MARGIN; None where there is nothing to compare."""
        return None if self.ratio is None else self.ratio <= MARGIN


@dataclass(frozen=True)
class AgainstBaseline:
    """Comparison of a tuned row with the one it was tuned from, both with or both without denoising."""

    row: Row
    baseline: Row

    @property
    def comparable(self) -> bool:
        """Both measured, at one N, by one evaluator, against one set, with their evaluations counted."""
        ours, other = self.row, self.baseline
        counted = ours.nfe is not None and other.nfe is not None
        return ours.measured and other.measured and counted and _same_yardstick(ours, other)

    @property
    def holds(self) -> bool | None:
        """Whether the tuned row has no higher FID at no more evaluations; None if not comparable."""
        if not self.comparable:
            return None
        assert self.row.fid is not None and self.baseline.fid is not None
        assert self.row.nfe is not None and self.baseline.nfe is not None
        return self.row.fid <= self.baseline.fid and self.row.nfe <= self.baseline.nfe


def against_floor(table: Table) -> tuple[AgainstFloor, ...]:
    """Every row of a sampler against the floor of its own N and evaluator."""
    return tuple(AgainstFloor(row, _floor(table, row)) for row in table.rows if not row.is_floor)


def against_baseline(table: Table) -> tuple[AgainstBaseline, ...]:
    """The tuned rows against `ncsnv2`, without and with denoising, where the table has both."""
    pairs = ((table.row(name, d), table.row(BASELINE, d)) for name in CHALLENGERS for d in (False, True))
    return tuple(AgainstBaseline(row, base) for row, base in pairs if row and base)


def best(table: Table) -> Row | None:
    """The row nearest to its floor; of lowest FID where no floor was measured."""
    measured = [v for v in against_floor(table) if v.row.fid is not None]
    return min(measured, key=_distance).row if measured else None


def _distance(verdict: AgainstFloor) -> tuple[bool, float]:
    value = verdict.row.fid if verdict.ratio is None else verdict.ratio
    assert value is not None
    return verdict.ratio is None, value


def sentences(table: Table) -> list[str]:
    """The verdict in words: one sentence for the floor, one for each comparison, one for what is missing."""
    found = [_floor_sentence(table, True), _floor_sentence(table, False)]
    found += [_baseline_sentence(pair) for pair in against_baseline(table)]
    found += [_convention_sentence(table, denoised) for denoised in (False, True)]
    found += paper_sentences(table)
    missing = [v.row for v in against_floor(table) if v.within is None]
    found += [_missing_sentence(row) for row in missing]
    commands = dict.fromkeys(command for row in table.rows for command in row.not_run)
    found += [f"A training seed was not run: `{command}`." for command in commands]
    return [text for text in found if text]


def _same_yardstick(one: Row, other: Row) -> bool:
    keys = ("n", "n_reference", "evaluator", "reference_set")
    return all(getattr(one, key) == getattr(other, key) for key in keys)


def _floor(table: Table, row: Row) -> Row | None:
    return next((floor for floor in table.floors() if _same_yardstick(row, floor)), None)


def _floor_sentence(table: Table, within: bool) -> str:
    named = [f"`{v.row.system}` {v.row.how} ({v.ratio:.2f} ×)" for v in against_floor(table) if v.within is within]
    head = f"Within {MARGIN:g} × the floor's FID" if within else f"Above {MARGIN:g} × the floor's FID"
    return f"{head}: {', '.join(named) if named else 'none'}."


def _baseline_sentence(pair: AgainstBaseline) -> str:
    head = f"`{pair.row.system}` at least as good as `{BASELINE}` for no more work, {pair.row.how}:"
    if not pair.comparable:
        return f"{head} unknown, since there are no two evaluations on the same terms."
    quality = _compare(pair.row.fid, pair.baseline.fid, "lower", "equal", "higher")
    cost = _compare(pair.row.nfe, pair.baseline.nfe, "fewer", "as many", "more")
    return (
        f"{head} {'yes' if pair.holds else 'no'}. FID is {quality} ({pair.row.fid:.3f} against "
        f"{pair.baseline.fid:.3f}) with {cost} network evaluations ({pair.row.nfe:,} against "
        f"{pair.baseline.nfe:,}). {_certainty(pair)}"
    )


def _certainty(pair: AgainstBaseline) -> str:
    ours, other = pair.row.interval("fid"), pair.baseline.interval("fid")
    if ours is None or other is None:
        return "These are single measurements: whether they would come out the same again is not tested."
    (low, high), (least, most) = ours.at(0.95), other.at(0.95)
    apart = high < least or most < low
    return f"Their 95 % intervals {'do not overlap' if apart else 'overlap: the difference may be chance'}."


def _convention_sentence(table: Table, denoised: bool) -> str:
    """The pair that no paper reports: a step size as released, and as the paper writes it."""
    released, paper = table.row(RELEASED, denoised), table.row(PAPER, denoised)
    if released is None or not released.measured:
        return ""
    if paper is None:
        command = with_row(table.drawn(), PAPER, released.network or RELEASED)
        missing = f"`{RELEASED}` with its step size in the paper's form, half the released one, was not run:"
        return "" if denoised else f"{missing} `{command}`."
    if not paper.measured or not _same_yardstick(released, paper):
        return ""
    quality = _compare(paper.fid, released.fid, "lower", "equal", "higher")
    return (
        f"`{PAPER}`, `{RELEASED}` with the same step size in the paper's form, half the released one: "
        f"FID is {quality}, {paper.how} ({paper.fid:.3f} against {released.fid:.3f})."
    )


def _compare(one: float | None, other: float | None, less: str, same: str, more: str) -> str:
    assert one is not None and other is not None
    return less if one < other else (same if one == other else more)


def _missing_sentence(row: Row) -> str:
    if not row.measured:
        return f"`{row.system}` {row.how} was not run: `{row.command}`."
    return f"`{row.system}` {row.how} has no floor at N={row.n:,} by the same evaluator."


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
    """Outcome of an interval of level 1 - 2 ALPHA against r = `published` with d = `margin` r.

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


def paper_sentences(table: Table) -> list[str]:
    """Verdicts against the papers in words: the method, and a sentence for each measure of a row."""
    judged = against_papers(table)
    if not judged:
        return []
    head = (
        f"Against the papers' numbers, by two one-sided t tests at {ALPHA:.0%}: within is equal up to a "
        f"margin of {table.margin:.0%}, better and worse are beyond it. The papers' numbers count as exact, "
        "since their spread between trainings is unknown: the margin has to cover it."
    )
    return [head, *(_paper_sentence(v) for v in judged)]


def _paper_sentence(verdict: AgainstPaper) -> str:
    row, label = verdict.row, measure(verdict.measure).label
    head = f"`{row.system}` {row.how}, {label}: {verdict.outcome}"
    if verdict.interval is None:
        return f"{head} ({verdict.reason}; the paper: {verdict.published})."
    low, high = verdict.interval
    scope = "" if row.training_seeds != 1 else ", of one network"
    return f"{head} ({low:.2f} to {high:.2f}{scope}; the paper: {verdict.published})."
