"""A search in this process, one trial after the other: what Ray Tune's would decide, without Ray."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.search.algorithms import Halving, Proposer
from pipeline.search.journal import Journal
from pipeline.search.kept import Kept
from pipeline.search.ledger import Ledger, OnTrial
from pipeline.search.records import Record, Settings
from pipeline.search.reports import Task
from pipeline.search.space import Budget, Space, Trial


def search_here(
    trial: Trial,
    space: Space,
    *,
    metric: str,
    budget: Budget,
    points: Sequence[Settings] = (),
    shared: Mapping[str, Any] | None = None,
    aside: Mapping[str, Any] | None = None,
    on_trial: OnTrial | None = None,
    kept: Kept | None = None,
) -> list[Record]:
    """`over_ray.search` with the same records, times apart; a trial must not kill its process."""
    proposer, halving = Proposer(space, points, budget), Halving(budget)
    folder = kept.folder(trial, metric, space, points, budget, shared) if kept else None
    ledger = Ledger(metric, budget, Journal(folder), on_trial)
    task = Task(trial, metric, {**(shared or {}), **(aside or {})}, ledger.known)
    for place in range(budget.num_trials):
        settings, value = proposer.ask() or {}, math.inf
        ledger.start(place, settings)
        for report in task.reports(place, settings):
            ledger.report(place, report)
            value = report["value"]
            if "reason" not in report and halving.stops(place, report["rung"], value):
                break
        ledger.end(place)
        proposer.tell(place, value)
    return ledger.closed()
