"""What is chosen from the trials of a search, and how sure that is: measured again on seeds of its own.

A trial that won did so by its samples too, so nothing here believes a trial's own FID: what is compared is
drawn again from `repeats` seeds that no trial used, the same ones for all. By these

- `lowest_fid` is the trial of lowest FID; `verdict` says whether it beats or ties with the analytic choice,
- `knee` is the knee of the front of FID against evaluations (`comparison.knee`),
- `fewest_nfe` is the cheapest of the front whose FID, drawn again, is at most that of the baseline.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.ncsn.sampler import Sampler
from pipeline.ncsn.score import Score
from pipeline.search import comparison
from pipeline.search.comparison import CostPoint, SearchLine, Spread, Verdict, mean, said
from pipeline.search.records import TrialRecord

CHOICES = ("lowest_fid", "fewest_nfe", "knee")
"""What `choose` in an entry of `sampler` may name."""

Rungs = Sequence[Mapping[str, float]]
Job = tuple[Score | None, Sampler, int]
"""A network, None for the one that was searched on, a sampler, and which of the further seeds, from 1."""
Measure = Callable[[Sequence[Job]], Sequence[Rungs]]


@dataclass(frozen=True)
class Baseline:
    """A sampler on its network, whose FID `fewest_nfe` has to equal."""

    name: str
    network: Score
    sampler: Sampler


@dataclass(frozen=True)
class Candidate:
    """A trial that was judged on all samples."""

    record: TrialRecord
    sampler: Sampler

    @property
    def point(self) -> CostPoint:
        metrics = self.record.metrics
        return CostPoint(str(self.record.trial), int(metrics["nfe"]), metrics["fid"])


@dataclass(frozen=True)
class Chosen:
    """The choices, and what was measured again."""

    candidates: list[Candidate]
    analytic: Candidate
    by_choice: dict[str, Candidate]
    """By `CHOICES`."""
    front: list[Candidate]
    """The cheapest first."""
    again: dict[str, list[Rungs]]
    """By the trial's number, or by the name of the baseline: the metrics at each rung, by seed."""
    spreads: dict[int, Spread]
    """By the samples at each rung, the spread of log FID over seeds."""
    verdict: Verdict
    lines: dict[str, SearchLine]
    """By name, as best.yaml has them: `analytic`, `baseline`, then `CHOICES`."""


class _Again:
    """Measures samplers on further seeds, each once."""

    def __init__(self, measure: Measure, repeats: int) -> None:
        self._measure, self._repeats = measure, repeats
        self.found: dict[str, list[Rungs]] = {}

    def __call__(self, wanted: Mapping[str, tuple[Score | None, Sampler]]) -> None:
        new = [(name, *what) for name, what in wanted.items() if name not in self.found]
        seeds = range(1, self._repeats + 1)
        jobs = [(network, sampler, seed) for _, network, sampler in new for seed in seeds]
        results = list(self._measure(jobs))
        for place, (name, _, _) in enumerate(new):
            self.found[name] = results[place * self._repeats : (place + 1) * self._repeats]

    def fids(self, name: str, metric: str = "fid") -> list[float]:
        """At the last rung, by seed."""
        return [rungs[-1][metric] for rungs in self.found[name]]

    def ratios(self, name: str) -> list[float]:
        """Of FID with the last denoising to that without, at the last rung, by seed."""
        return [rungs[-1]["fid"] / rungs[-1]["fid_raw"] for rungs in self.found[name]]

    def spreads(self) -> dict[int, Spread]:
        rungs = zip(*(seed for seeds in self.found.values() for seed in seeds), strict=True)
        counts = [int(at[0]["samples"]) for at in rungs]
        return {
            count: Spread.of({n: [s[rung]["fid"] for s in seeds] for n, seeds in self.found.items()})
            for rung, count in enumerate(counts)
        }


def choose(
    candidates: Sequence[Candidate],
    analytic: Candidate,
    baseline: Baseline,
    measure: Measure,
    repeats: int,
) -> Chosen:
    """Make all of `CHOICES`; see the module's docstring.

    Args:
        candidates: trials that reached the last rung, at least one.
        analytic: the trial of the analytic choice.
        measure: the metrics at each rung of each job.
    """
    by_name = {candidate.point.name: candidate for candidate in candidates}
    front = [by_name[point.name] for point in comparison.front([c.point for c in candidates])]
    lowest, knee = front[-1], by_name[comparison.knee([c.point for c in front]).name]
    again = _Again(measure, repeats)
    first = {c.point.name: (None, c.sampler) for c in (analytic, lowest, knee)}
    again({**first, baseline.name: (baseline.network, baseline.sampler)})
    fewest, reached = _fewest(front, mean(again.fids(baseline.name)), again)
    by_choice = {"lowest_fid": lowest, "fewest_nfe": fewest, "knee": knee}
    spreads = again.spreads()
    verdict = Verdict.by_seeds(again.fids(lowest.point.name), again.fids(analytic.point.name), spreads)
    verdict = _with_denoising(verdict, again, lowest.point.name)
    lines = {"analytic": _line(analytic, again), "baseline": _baseline_line(baseline, again)}
    lines |= {name: replace(_line(one, again), sampler=one.sampler) for name, one in by_choice.items()}
    lines["fewest_nfe"] = replace(lines["fewest_nfe"], reaches_baseline=reached)
    return Chosen(list(candidates), analytic, by_choice, front, again.found, spreads, verdict, lines)


def _fewest(front: Sequence[Candidate], target: float, again: _Again) -> tuple[Candidate, bool]:
    for candidate in front:
        if candidate.point.fid <= target:
            again({candidate.point.name: (None, candidate.sampler)})
            if mean(again.fids(candidate.point.name)) <= target:
                return candidate, True
    return front[-1], False


def _with_denoising(verdict: Verdict, again: _Again, name: str) -> Verdict:
    """Whether the last denoising of one trial is worth its evaluation.

    Both FIDs of a seed are of the same samples, so that their ratio's logarithm is tested, by its own spread
    over seeds.
    """
    ratios = {name: again.ratios(name) for name in again.found}
    ratio, limit = mean(ratios[name]), Spread.of(ratios).limit(len(ratios[name]), math.inf)
    return replace(
        verdict,
        denoising_against_none=said(ratio, limit),
        denoising_fid_ratio=ratio,
        denoising_equal_up_to=limit,
    )


def _line(candidate: Candidate, again: _Again) -> SearchLine:
    return _with_means(SearchLine.of(candidate.record), candidate.point.name, again)


def _with_means(line: SearchLine, name: str, again: _Again) -> SearchLine:
    fids, raw = again.fids(name), again.fids(name, "fid_raw")
    return replace(line, fid_again=mean(fids), fid_raw_again=mean(raw), seeds=len(fids))


def _baseline_line(baseline: Baseline, again: _Again) -> SearchLine:
    last = again.found[baseline.name][0][-1]
    plain = {
        "network": baseline.name,
        **baseline.sampler.plain(),
        "nfe": last["nfe"],
        "samples": last["samples"],
    }
    return _with_means(SearchLine(values=plain), baseline.name, again)
