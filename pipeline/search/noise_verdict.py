"""The noise ranges of theory, of papers and of the search side by side, and whether the found one is better.

A trial's FID is one draw: another seed of its training and samples gives another one. A found range whose
FID differs from the analytic choice's by no more than that is called a tie. Two measures of it:

- of the samples alone, from each trial's own: free, and too small, since the training's part is missing;
- of whole trials on further seeds, where `tune_noise.repeats` asks for them.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from pipeline.search import pareto
from pipeline.search.pareto import LEVEL, Spread
from pipeline.search.records import FAILED, FINISHED, Settings, TrialRecord, shown

logger = logging.getLogger(__name__)

Again = Callable[[Sequence[Settings]], Sequence[Sequence[TrialRecord]]]
"""For each of these settings, its trials on further seeds."""


@dataclass(frozen=True)
class Compared:
    """The choices side by side."""

    lines: dict[str, dict[str, Any]]
    """`tuned`, `analytic` and the other starting points: the range and what its trial measured."""
    verdict: dict[str, Any]
    """`tuned_against_analytic`: better, tie, worse or unknown; by what noise (`noise_of`) and how much."""
    again: dict[int, Sequence[TrialRecord]]
    """By the number of a trial, the same on further seeds."""


def compare(choices: Mapping[str, TrialRecord], again: Again | None) -> Compared:
    """Compare the trials `tuned`, `analytic` and the others' by name; what is equal is trained again once."""
    unique = {record.trial: record for record in choices.values()}
    good = [record for record in unique.values() if record.status != FAILED]
    repeated = again([record.settings for record in good]) if again else []
    found = dict(zip((record.trial for record in good), repeated, strict=bool(again)))
    fids = {trial: [r.metrics["fid"] for r in some if r.status == FINISHED] for trial, some in found.items()}
    tuned, analytic = choices["tuned"], choices["analytic"]
    verdict = _by_samples(tuned, analytic)
    if fids.get(tuned.trial) and fids.get(analytic.trial) and max(map(len, fids.values())) > 1:
        verdict = _by_seeds(fids[tuned.trial], fids[analytic.trial], _spreads(found))
    lines = {name: {**record.line(), **_seen(fids.get(record.trial))} for name, record in choices.items()}
    return Compared(lines, verdict, found)


def _seen(fids: Sequence[float] | None) -> dict[str, Any]:
    return {"fid_again": pareto.mean(fids), "seeds": len(fids)} if fids else {}


def _by_samples(tuned: TrialRecord, analytic: TrialRecord) -> dict[str, Any]:
    """By the standard errors of both FIDs, as if drawn apart; both have the same noise, which is nearer."""
    if analytic.status != FINISHED or tuned.status != FINISHED:
        return {"tuned_against_analytic": "unknown"}
    one, other = tuned.metrics, analytic.metrics
    ratio = pareto.mean([one["fid"]]) / pareto.mean([other["fid"]])
    quantile = NormalDist().inv_cdf((1 + LEVEL) / 2)
    limit = math.exp(quantile * math.hypot(_relative(one), _relative(other)))
    tie = tuned.trial == analytic.trial or 1 / limit <= ratio <= limit
    word = "tie" if tie else "better" if ratio < 1 else "worse"
    return {
        "tuned_against_analytic": word,
        "noise_of": "samples",
        "fid_ratio": ratio,
        "equal_up_to": limit,
    }


def _relative(metrics: Mapping[str, float]) -> float:
    return metrics["fid_se"] / max(metrics["fid"], 1e-12)


def _by_seeds(tuned: list[float], analytic: list[float], spreads: dict[int, Spread]) -> dict[str, Any]:
    spread = spreads[max(spreads)]
    return {
        "tuned_against_analytic": pareto.verdict(tuned, analytic, spread),
        "noise_of": "seeds",
        "fid_ratio": pareto.mean(tuned) / pareto.mean(analytic),
        "equal_up_to": spread.limit(len(tuned), len(analytic)),
        "std_of_log_fid": {steps: one.std for steps, one in spreads.items()},
        "degrees_of_freedom": spread.dof,
    }


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
    names: dict[int, list[str]] = {}
    for name, line in compared.lines.items():
        if name != "tuned":
            names.setdefault(line["trial"], []).append(name)
    for trial, same in names.items():
        logger.info("%s: %s (trial %d)", ", ".join(same), shown(compared.lines[same[0]]), trial)
    found, verdict = compared.lines["tuned"], compared.verdict
    logger.info("tuned: %s (trial %d)", shown(found), found["trial"])
    if "noise_of" in verdict:
        keys = ("tuned_against_analytic", "fid_ratio", "equal_up_to", "noise_of")
        logger.info(
            "tuned against analytic: %s (FID %.3f times the analytic choice's; up to %.3f times either way "
            "is noise of the %s)",
            *(verdict[key] for key in keys),
        )
    else:
        logger.info("tuned against analytic: unknown, one of them did not end whole")
