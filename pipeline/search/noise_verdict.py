"""The noise ranges of theory, of papers and of the search side by side, and whether the found one is better.

A trial's FID is one draw: another seed of its training and samples gives another one. A found range whose
FID differs from the analytic choice's by no more than that is called a tie. Two measures of it:

- of the samples alone, from each trial's own: free, and too small, since the training's part is missing;
- of whole trials on further seeds, where `tune_noise.repeats` asks for them.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from pipeline.search.comparison import LEVEL, SearchLine, Spread, Verdict, mean, said
from pipeline.search.records import FAILED, FINISHED, Settings, TrialRecord

logger = logging.getLogger(__name__)

Again = Callable[[Sequence[Settings]], Sequence[Sequence[TrialRecord]]]
"""For each of these settings, its trials on further seeds."""


@dataclass(frozen=True)
class Compared:
    """The choices side by side."""

    lines: dict[str, SearchLine]
    """`tuned`, `analytic` and the other starting points: the range and what its trial measured."""
    verdict: Verdict
    again: dict[int, Sequence[TrialRecord]]
    """By the number of a trial, the same on further seeds."""


def compare(choices: Mapping[str, TrialRecord], again: Again | None) -> Compared:
    """Compare the trials `tuned`, `analytic` and the others' by name; what is equal is trained again once."""
    unique = {record.trial: record for record in choices.values()}
    good = [record for record in unique.values() if record.status != FAILED]
    repeated = again([record.settings for record in good]) if again else []
    found = dict(zip((record.trial for record in good), repeated, strict=bool(again)))
    fids = {trial: [r.metrics["fid"] for r in some if r.status == FINISHED] for trial, some in found.items()}
    spreads = _spreads(found) if max(map(len, fids.values()), default=0) > 1 else {}
    against = {name: _against(choices["tuned"], record, fids, spreads) for name, record in choices.items()}
    lines = {name: _line(record, fids.get(record.trial)) for name, record in choices.items()}
    return Compared(lines, replace(against["analytic"], no_better_than=_equals(against, lines)), found)


def _against(
    tuned: TrialRecord, other: TrialRecord, fids: Mapping[int, Sequence[float]], spreads: dict[int, Spread]
) -> Verdict:
    if spreads and fids.get(tuned.trial) and fids.get(other.trial):
        return replace(Verdict.by_seeds(fids[tuned.trial], fids[other.trial], spreads), noise_of="seeds")
    return _by_samples(tuned, other)


def _equals(against: Mapping[str, Verdict], lines: Mapping[str, SearchLine]) -> tuple[str, ...]:
    """The starting points that are as good as the found one or better, the lowest FID first."""
    found = [n for n, v in against.items() if n != "tuned" and v.tuned_against_analytic in ("tie", "worse")]
    return tuple(sorted(found, key=lambda name: lines[name].fid_again or lines[name].values["fid"]))


def _line(record: TrialRecord, fids: Sequence[float] | None) -> SearchLine:
    line = SearchLine.of(record)
    return replace(line, fid_again=mean(fids), seeds=len(fids)) if fids else line


def _by_samples(tuned: TrialRecord, analytic: TrialRecord) -> Verdict:
    """By the standard errors of both FIDs, as if drawn apart; both have the same noise, which is nearer."""
    if analytic.status != FINISHED or tuned.status != FINISHED:
        return Verdict()
    one, other = tuned.metrics, analytic.metrics
    ratio = mean([one["fid"]]) / mean([other["fid"]])
    quantile = NormalDist().inv_cdf((1 + LEVEL) / 2)
    limit = math.exp(quantile * math.hypot(_relative(one), _relative(other)))
    word = "tie" if tuned.trial == analytic.trial else said(ratio, limit)
    return Verdict(tuned_against_analytic=word, noise_of="samples", fid_ratio=ratio, equal_up_to=limit)


def _relative(metrics: Mapping[str, float]) -> float:
    return metrics["fid_se"] / max(metrics["fid"], 1e-12)


def _spreads(again: Mapping[int, Sequence[TrialRecord]]) -> dict[int, Spread]:
    """By the steps of each rung, the spread of log FID over seeds, pooled over the ranges."""
    good = {trial: [r for r in some if r.status == FINISHED] for trial, some in again.items()}
    steps = [int(rung["steps"]) for rung in next(some for some in good.values() if some)[0].rungs]
    return {
        count: Spread.of({str(t): [r.rungs[rung]["fid"] for r in some] for t, some in good.items() if some})
        for rung, count in enumerate(steps)
    }


def log_verdict(compared: Compared) -> None:
    """Log the choices of theory, of papers and of the search, a line for each range, and the verdict."""
    names: dict[int | None, list[str]] = {}
    for name, line in compared.lines.items():
        if name != "tuned":
            names.setdefault(line.trial, []).append(name)
    for trial, same in names.items():
        logger.info("%s: %s (trial %d)", ", ".join(same), compared.lines[same[0]], trial)
    found, verdict = compared.lines["tuned"], compared.verdict
    logger.info("tuned: %s (trial %d)", found, found.trial)
    if verdict.noise_of:
        logger.info(
            "tuned against analytic: %s (FID %.3f times the analytic choice's; up to %.3f times either way "
            "is noise of the %s)",
            verdict.tuned_against_analytic,
            verdict.fid_ratio,
            verdict.equal_up_to,
            verdict.noise_of,
        )
    else:
        logger.info("tuned against analytic: unknown, one of them did not end whole")
