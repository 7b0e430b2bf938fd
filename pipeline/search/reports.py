"""What a trial reports while it runs, in whatever process that is."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.search.journal import Known, before
from pipeline.search.picture import PICTURE
from pipeline.search.records import FAILED, Record, Settings
from pipeline.search.space import Trial

Report = Mapping[str, Any]
"""`value`, what is minimised; with it `rung`, from 0, `metrics`, `picture`, or the `reason` of a failure."""


@dataclass(frozen=True)
class Task:
    """What every trial of a search needs, in its process."""

    trial: Trial
    metric: str
    shared: Mapping[str, Any]
    known: Known

    def reports(self, place: int, settings: Settings) -> Iterator[Report]:
        """Run a trial, or repeat what it reported when it ran before."""
        record = before(self.known, place, settings)
        if record:
            return _replayed(record, self.metric)
        return _run(self.trial, settings, self.shared, self.metric)


def _run(trial: Trial, settings: Settings, shared: Mapping[str, Any], metric: str) -> Iterator[Report]:
    """A report for each rung; a failure is reported as the worst value, not raised.

    An exception would cost the worker process, and Optuna ignores failed trials: it would go there again.
    """
    try:
        for rung, metrics in enumerate(trial(dict(settings), **shared)):
            if not math.isfinite(metrics[metric]):
                raise FloatingPointError(f"{metric} is {metrics[metric]} at rung {rung + 1}")
            numbers = {name: _plain(value) for name, value in metrics.items() if name != PICTURE}
            yield _reached(rung, numbers, metric, metrics.get(PICTURE, ""))
    except Exception as error:
        yield _failed(f"{type(error).__name__}: {error}")


def _replayed(record: Record, metric: str) -> Iterator[Report]:
    for rung, metrics in enumerate(record.rungs):
        yield _reached(rung, metrics, metric, record.picture)
    if record.status == FAILED:
        yield _failed(record.reason)


def _reached(rung: int, metrics: Mapping[str, float], metric: str, picture: str) -> Report:
    return {"value": float(metrics[metric]), "rung": rung, "metrics": dict(metrics), PICTURE: picture}


def _failed(reason: str) -> Report:
    return {"value": math.inf, "reason": reason}


def _plain(value: Any) -> Any:
    """A scalar of numpy or torch as Python's, which JSON holds."""
    return value.item() if hasattr(value, "item") else value
