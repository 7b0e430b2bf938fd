"""Runners of a search: Ray Tune over the connected cluster, or this process, with the same records.

What is tried is decided by `algorithms` alone. Ray is imported when a search runs on it.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.cluster.connect import cluster_resources
from pipeline.search.algorithms import Budget, Halving, Proposer, Space
from pipeline.search.records import OnTrial, Settings, Shared, Trial, TrialRecord, TrialTask
from pipeline.search.store import Journal, Ledger, SearchStore


def search(
    trial: Trial,
    space: Space,
    *,
    metric: str,
    budget: Budget,
    points: Sequence[Settings] = (),
    shared: Shared | None = None,
    aside: Shared | None = None,
    resources: Mapping[str, float] | None = None,
    at_once: int | None = None,
    on_trial: OnTrial | None = None,
    store: SearchStore | None = None,
    follows: Any = None,
) -> list[TrialRecord]:
    """Search `space` for the settings with the smallest `metric`, on the Ray that is connected.

    The same arguments give the same trials and metrics. A trial that raises, whose metric is not finite or
    whose process dies is recorded as failed, and the search continues.

    Args:
        trial: called as `trial(settings, **shared)`; yields a mapping that holds `metric` at each rung.
        points: settings tried first, in this order.
        shared: large constants, put into Ray's object store once.
        aside: the same, but for what changes no result, so that a search is found again without it.
        resources: of each trial, e.g. `{"cpu": 2}`.
        at_once: how many trials run at a time where fewer than `budget.max_concurrent` are to, which changes
            no decision; None: as many as there are resources for.
        on_trial: called here, in the caller's process, with each record as its trial ends.
        store: where each trial is written as it ends. A later call measures nothing that this one did, be it
            killed or with other trials or rungs: the trials and metrics are those of a call that began from
            nothing. None: nothing is written.
        follows: what metrics follow from besides the trial's settings and `shared`.

    Returns:
        One record per trial, in the order of proposal.

    Raises:
        UserError: every trial failed, and the message holds the first reason, or another process runs the same
            search in `store`.
    """
    from pipeline.search.over_ray import over_ray

    with _begun(trial, metric, budget, shared, aside, on_trial, store, follows) as (ledger, task):
        over_ray(task, ledger, space, budget, points, resources or {"cpu": 1}, at_once)
        return ledger.closed()


def search_here(
    trial: Trial,
    space: Space,
    *,
    metric: str,
    budget: Budget,
    points: Sequence[Settings] = (),
    shared: Shared | None = None,
    aside: Shared | None = None,
    on_trial: OnTrial | None = None,
    store: SearchStore | None = None,
    follows: Any = None,
) -> list[TrialRecord]:
    """`search` in this process, one trial after the other; a trial must not kill its process."""
    with _begun(trial, metric, budget, shared, aside, on_trial, store, follows) as (ledger, task):
        proposer, halving = Proposer(space, points, budget), Halving(budget)
        for place in range(budget.num_trials):
            settings, value = proposer.ask() or {}, math.inf
            ledger.start(place, settings)
            for report in task.reports(settings):
                ledger.report(place, report)
                value = report["value"]
                if "reason" not in report and halving.stops(place, report["rung"], value):
                    break
            ledger.end(place)
            proposer.tell(place, value)
        return ledger.closed()


@contextlib.contextmanager
def _begun(
    trial: Trial,
    metric: str,
    budget: Budget,
    shared: Shared | None,
    aside: Shared | None,
    on_trial: OnTrial | None,
    store: SearchStore | None,
    follows: Any,
) -> Iterator[tuple[Ledger, TrialTask]]:
    """The ledger of a search, which knows what was measured before, and the task of its trials."""
    with store.unless_failed() if store else contextlib.nullcontext():
        folder = store.folder(trial, metric, shared, follows) if store else None
        ledger = Ledger(metric, budget, Journal(folder, budget.rungs), on_trial)
        constants = {**(shared or {}), **(aside or {})}
        yield ledger, TrialTask(trial, metric, constants, len(budget.rungs), ledger.known)


def resources(max_concurrent: int, use_gpu: bool, gpus_per_trial: float | None = None) -> dict[str, float]:
    """Resources that Ray reserves for a trial: a CPU, and where GPUs are used a part of one.

    Args:
        gpus_per_trial: None: a share of a GPU with which all concurrent trials fit.
    """
    if not use_gpu:
        return {"cpu": 1}
    gpus = cluster_resources()["GPU"]
    return {"cpu": 1, "gpu": gpus_per_trial or 1 / math.ceil(max_concurrent / gpus)}
