"""The search for a sampler on a trained network: no training, only samples under budgets of evaluations.

The resource is the number of samples: a trial that goes on adds samples to those it has. Each budget has a
search of its own, begun at the choices of theory (`proposals`); together their trials are the front of FID
against evaluations. What is chosen from it is measured again on other seeds (`repeats`).
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch

from pipeline.cluster import connect
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.sampler import Ladder, Sampler
from pipeline.search import Kept, search
from pipeline.search.records import FINISHED, Record, shown
from pipeline.search.sampler_space import Bounds
from pipeline.search.sampler_trial import Setup, measured, trial
from pipeline.search.sampler_verdict import RULES, Candidate, Chosen, Job, Published, Rungs, choose
from pipeline.training.checkpoints import load_network

logger = logging.getLogger(__name__)

Rules = Mapping[str, Mapping[str, Any]]
"""params.yaml's section `sampler`: by variant, the rule and its numbers."""
OnTrial = Callable[[Record], None]


@dataclass(frozen=True)
class Found:
    """What the search found."""

    records: list[Record]
    """Of all budgets, the smallest budget's first."""
    samplers: dict[str, Sampler]
    """By the rules `RULES`."""
    chosen: Chosen


def tune(
    setup: Setup,
    *,
    budgets: Sequence[int],
    bounds: Bounds,
    resources: Mapping[str, float],
    repeats: int,
    published: Published | None = None,
    on_trial: OnTrial | None = None,
    kept: Kept | None = None,
) -> Found:
    """Search for the sampler of the smallest FID within each budget, on the Ray that is connected.

    Args:
        budgets: of network evaluations, ascending; each has a search of `setup.budget.num_trials` trials.
        bounds: see `Proposals.space`.
        repeats: seeds beside the search's own, behind every comparison of what is chosen.
        published: what the rule `fewest` has to equal; None: the analytic choice.
        kept: where trials are kept, see `search`.

    Raises:
        UserError: every trial failed, budgets without room for two levels or, with a conditional network, for
            its own, or bounds that let the ladder leave the trained range.
    """
    candidates: list[Candidate] = []
    records: list[Record] = []
    for one in [replace(setup, max_nfe=budget) for budget in _feasible(setup, budgets)]:
        offset = len(records)
        found = search(
            trial,
            one.proposals().space(bounds),
            metric="fid",
            budget=replace(one.budget, seed=one.budget.seed + offset),  # else the same draws for each
            points=one.proposals().points()[: one.budget.num_trials],
            shared={"setup": one},
            resources=resources,
            on_trial=_renumbered(on_trial, offset),
            kept=kept,
        )
        records += [_reported(record, offset) for record in found]
        candidates += _candidates(found, one, offset)
    analytic = next((c for c in candidates if c.record.trial == offset + 1), None)
    if analytic is None:
        raise UserError(f"the analytic choice failed, the search has no start: {records[offset].reason}")
    chosen = choose(candidates, analytic, published, partial(_measure, setup), repeats)
    _tell(chosen)
    return Found(records, {rule: c.sampler for rule, c in chosen.by_rule.items()}, chosen)


def _feasible(setup: Setup, budgets: Sequence[int]) -> list[int]:
    """The budgets with room for the levels of a conditional network; all of them for another one."""
    fewest = setup.trained.num_levels + 1 if setup.proposals().conditional else 3
    if max(budgets) < fewest:
        raise UserError(
            f"tune_sampler.max_nfe ({list(budgets)}) is below the {fewest} evaluations that this network's "
            "levels and denoising take: raise it."
        )
    return [budget for budget in budgets if budget >= fewest]


def _candidates(found: Sequence[Record], setup: Setup, offset: int) -> list[Candidate]:
    judged = [record for record in found if record.status == FINISHED]
    return [Candidate(_reported(r, offset), setup.proposals().sampler(r.settings)) for r in judged]


def _reported(record: Record, offset: int) -> Record:
    """Numbered through all budgets."""
    return replace(record, trial=record.trial + offset)


def _renumbered(on_trial: OnTrial | None, offset: int) -> OnTrial | None:
    return None if on_trial is None else (lambda record: on_trial(_reported(record, offset)))


def _measure(setup: Setup, jobs: Sequence[Job]) -> list[Rungs]:
    """The metrics at each rung of each job: as tasks on a cluster, else in threads of this process."""

    def work(job: Job) -> Rungs:
        network, sampler, seed = job
        return list(measured(sampler, setup, network or setup.network, setup.budget.seed + seed))

    if connect.is_remote():
        task = ray.remote(work).options(num_cpus=1, num_gpus=1 if setup.device == "cuda" else 0)
        return list(ray.get([task.remote(job) for job in jobs]))
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(1 if setup.device == "cuda" else setup.budget.max_concurrent) as pool:
            return list(pool.map(work, jobs))
    finally:
        torch.set_num_threads(threads)


def _tell(chosen: Chosen) -> None:
    """The choices of theory, of the papers and of the search, a line each, and the verdict."""
    for name, line in chosen.lines.items():
        logger.info("%-9s %s", name, shown(line))
    verdict = chosen.verdict
    logger.info(
        "tuned against analytic: %s (FID %.3f times the analytic choice's on %d further seeds; up to %.3f "
        "times either way counts as equal)",
        *(verdict[key] for key in ("tuned_against_analytic", "fid_ratio")),
        chosen.lines["tuned"]["seeds"],
        verdict["equal_up_to"],
    )
    logger.info(
        "the last denoising of tuned against none: %s (FID %.3f times that without, for an evaluation more)",
        *(verdict[key] for key in ("denoising_against_none", "denoising_fid_ratio")),
    )


def published(
    networks: Path, rules: Rules, ladders: Mapping[str, Ladder], baseline: str, variant: str
) -> Published | None:
    """The sampler of the variant `baseline` with its network, below `networks`; None for `variant` itself,
    whose analytic choice stands in."""
    if baseline == variant:
        return None
    sampler = settled({baseline: rules[baseline]}, ladders, {})[baseline]
    return Published(baseline, load_network(networks / baseline), sampler)


def settled(rules: Rules, ladders: Mapping[str, Ladder], found: Mapping[str, Sampler]) -> dict[str, Sampler]:
    """The sampler of every variant: annealed Langevin dynamics on its trained ladder, fixed as given or
    analytic; one that was found; or another one, by its name, on levels of its own between the same ends.

    Args:
        found: the samplers found, by rule: `tuned`, `fewest`, `knee`.

    Raises:
        UserError: a variant has a rule of the search, but there was none.
    """
    return {variant: _settle(variant, rule, ladders[variant], found) for variant, rule in rules.items()}


def _settle(variant: str, rule: Mapping[str, Any], ladder: Ladder, found: Mapping[str, Sampler]) -> Sampler:
    options = {key: value for key, value in rule.items() if key not in ("rule", "num_levels", "rho")}
    if rule["rule"] == "fixed":
        return Sampler.langevin(ladder, **options)
    if rule["rule"] == "analytic":
        return Sampler.analytic(ladder, **options)
    if rule["rule"] not in RULES:
        levels = Ladder(ladder.sigma_max, ladder.sigma_min, rule["num_levels"], rule["rho"])
        return Sampler(rule["rule"], levels, options)
    if rule["rule"] not in found:
        raise UserError(
            f"sampler.{variant}.rule is `{rule['rule']}`, but no sampler was searched: search one."
        )
    return found[rule["rule"]]
