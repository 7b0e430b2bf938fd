"""Verdict on the table, computed from its rows and never written by hand."""

from dataclasses import dataclass

from pipeline.reporting import equivalence
from pipeline.reporting.rows import Row, Table, with_row

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
    found += equivalence.sentences(table)
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
    named = [
        f"`{v.row.system}` {v.row.how} ({v.ratio:.2f} ×)" for v in against_floor(table) if v.within is within
    ]
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
