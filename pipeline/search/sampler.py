"""The search for a sampler on a trained network: no training, only samples under budgets of evaluations.

The resource is the number of samples: a trial that goes on adds samples to those it has. Each budget has a
search of its own, begun at the choices of theory (`proposals`); together their trials are the front of FID
against evaluations. What is chosen from it is measured again on other seeds (`repeats`).
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from pipeline import progress
from pipeline.cluster import connect
from pipeline.files import write_yaml
from pipeline.ncsn.errors import UserError
from pipeline.search import SearchStore, search
from pipeline.search.records import FINISHED, OnTrial, Settings, TrialRecord, write_csv, write_trials
from pipeline.search.sampler_space import Bounds
from pipeline.search.sampler_trial import SamplerSetup, measured, trial
from pipeline.search.sampler_verdict import Baseline, Candidate, Chosen, Job, Rungs, choose

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundSampler:
    """What the search found."""

    records: list[TrialRecord]
    """Of all budgets, the smallest budget's first."""
    chosen: Chosen

    def write(self, folder: Path) -> None:
        """Write the files of the search into a folder.

        - trials.csv and rungs.csv: see `write_trials`; a setting that a kind does not have is empty.
        - repeats.csv: FID at each rung of all that was chosen or compared, on seeds that no trial used.
        - pareto.csv: the trials judged on all samples, the cheapest first; on_front is 0 or 1.
        - best.yaml: the analytic choice, the baseline and each choice side by side, and the verdict.
        """
        write_trials(folder, self.records)
        write_csv(folder / "repeats.csv", list(_repeats(self.chosen)))
        write_csv(folder / "pareto.csv", list(_pareto(self.chosen)))
        lines = {name: line.plain() for name, line in self.chosen.lines.items()}
        write_yaml(folder / "best.yaml", {**lines, "verdict": self.chosen.verdict.plain()})


def tune(
    setup: SamplerSetup,
    *,
    budgets: Sequence[int],
    bounds: Bounds,
    resources: Mapping[str, float],
    repeats: int,
    baseline: Baseline,
    on_trial: OnTrial | None = None,
    store: SearchStore | None = None,
) -> FoundSampler:
    """Search for the sampler of the smallest FID within each budget, on the Ray that is connected.

    Args:
        budgets: of network evaluations, ascending; each has a search of `setup.budget.num_trials` trials.
        bounds: see `Proposals.space`.
        repeats: seeds in addition to the search's own, behind every comparison of what is chosen.
        baseline: what the choice `fewest_nfe` has to equal.
        store: where trials are written, see `search`.

    Raises:
        UserError: every trial failed, budgets without room for two levels or, with a conditional network, for
            its own, or bounds that let the ladder leave the trained range.
    """
    candidates: list[Candidate] = []
    records: list[TrialRecord] = []
    setups = [replace(setup, max_nfe=budget) for budget in _feasible(setup, budgets)]
    for place, one in enumerate(setups, 1):
        offset = len(records)
        logger.info("search %d of %d, of at most %d evaluations; repeats follow", place, len(setups), one.max_nfe)
        found = search(
            trial,
            one.proposals().space(bounds),
            metric="fid",
            budget=replace(one.budget, seed=one.budget.seed + offset),  # else the same draws for each
            points=one.proposals().points()[: one.budget.num_trials],
            shared={"setup": one},
            resources=resources,
            on_trial=_renumbered(on_trial, offset),
            store=store,
        )
        records += [_reported(record, offset) for record in found]
        candidates += _candidates(found, one, offset)
    analytic = next((c for c in candidates if c.record.trial == offset + 1), None)
    if analytic is None:
        raise UserError(f"the analytic choice failed, the search has no start: {records[offset].reason}")
    chosen = choose(candidates, analytic, baseline, partial(_measure, setup), repeats)
    _log(chosen)
    return FoundSampler(records, chosen)


def _feasible(setup: SamplerSetup, budgets: Sequence[int]) -> list[int]:
    """The budgets with room for the levels of a conditional network; all of them for another one."""
    fewest = setup.trained.num_levels + 1 if setup.proposals().conditional else 3
    if max(budgets) < fewest:
        raise UserError(
            f"tune_sampler.max_nfe ({list(budgets)}) is below the {fewest} evaluations that this network's "
            "levels and denoising take: raise it."
        )
    return [budget for budget in budgets if budget >= fewest]


def _candidates(found: Sequence[TrialRecord], setup: SamplerSetup, offset: int) -> list[Candidate]:
    judged = [record for record in found if record.status == FINISHED]
    return [Candidate(_reported(r, offset), setup.proposals().sampler(r.settings)) for r in judged]


def _reported(record: TrialRecord, offset: int) -> TrialRecord:
    """Numbered through all budgets."""
    return replace(record, trial=record.trial + offset)


def _renumbered(on_trial: OnTrial | None, offset: int) -> OnTrial | None:
    return None if on_trial is None else (lambda record: on_trial(_reported(record, offset)))


def _measure(setup: SamplerSetup, jobs: Sequence[Job]) -> list[Rungs]:
    """The metrics at each rung of each job: as tasks on a cluster, else in threads of this process."""

    def work(job: Job) -> Rungs:
        network, sampler, seed = job
        return list(measured(sampler, setup, network or setup.network, setup.budget.seed + seed))

    if connect.is_remote():
        import ray

        task = ray.remote(work).options(num_cpus=1, num_gpus=1 if setup.device == "cuda" else 0)
        waiting = [task.remote(job) for job in jobs]
        return list(progress.reported("repeats and baseline", map(ray.get, waiting), len(jobs)))
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(1 if setup.device == "cuda" else setup.budget.max_concurrent) as pool:
            return list(progress.reported("repeats and baseline", pool.map(work, jobs), len(jobs)))
    finally:
        torch.set_num_threads(threads)


def _log(chosen: Chosen) -> None:
    """Log the choices of theory, of the papers and of the search, a line each, and the verdict."""
    for name, line in chosen.lines.items():
        logger.info("%-9s %s", name, line)
    verdict = chosen.verdict
    logger.info(
        "lowest FID against analytic: %s (%.3f times the analytic choice's FID on %d further seeds; up to "
        "%.3f times either way counts as equal)",
        verdict.tuned_against_analytic,
        verdict.fid_ratio,
        chosen.lines["lowest_fid"].seeds,
        verdict.equal_up_to,
    )
    logger.info(
        "its last denoising against none: %s (%.3f times the FID without, for an evaluation more)",
        verdict.denoising_against_none,
        verdict.denoising_fid_ratio,
    )


def _repeats(chosen: Chosen) -> Iterator[Settings]:
    for name, seeds in chosen.again.items():
        for seed, rungs in enumerate(seeds, 1):
            for rung in rungs:
                numbers = {key: rung[key] for key in ("samples", "nfe", "fid", "fid_raw")}
                yield {"trial": name, "seed": seed, **numbers}


def _pareto(chosen: Chosen) -> Iterator[Settings]:
    for candidate in sorted(chosen.candidates, key=lambda c: (c.point.nfe, c.point.fid)):
        choices = [name for name, one in chosen.by_choice.items() if one is candidate]
        names = ["analytic", *choices] if candidate is chosen.analytic else choices
        yield {
            "trial": candidate.record.trial,
            "sampler": candidate.sampler.kind,
            "nfe": candidate.point.nfe,
            "fid": candidate.point.fid,
            "num_samples": int(candidate.record.metrics["samples"]),
            "on_front": int(any(candidate is one for one in chosen.front)),
            "chosen": " ".join(names),
        }
