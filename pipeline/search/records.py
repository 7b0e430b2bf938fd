"""What a search tried: records of trials, the best of them, and where they are written down."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

Settings = dict[str, Any]
"""Numbers, or names where there is a choice."""

FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"


@dataclass(frozen=True)
class Record:
    """What became of one trial."""

    trial: int
    """From 1, in the order of proposal."""
    settings: Settings
    rungs: tuple[dict[str, float], ...] = ()
    """The metrics at each rung reached."""
    status: str = STOPPED
    reason: str = ""
    seconds: float = 0.0
    picture: str = field(default="", repr=False)
    """Samples at the last rung reached: a PNG in base64, or nothing."""

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics at the last rung reached; empty if there was none."""
        return self.rungs[-1] if self.rungs else {}

    def line(self) -> dict[str, Any]:
        """The trial as a comparison shows it: its settings as used, its last metrics, number and status."""
        return {**self.settings, **self.metrics, "trial": self.trial, "status": self.status}


def shown(line: Mapping[str, Any]) -> str:
    """A comparison's line, see `Record.line`, as the log has it."""
    numbers = {key: value for key, value in line.items() if key not in ("trial", "status", "samples")}
    return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in numbers.items())


def best(records: Sequence[Record], metric: str) -> Record:
    """Return the record with the smallest `metric` among those that reached the highest rung.

    Metrics of different rungs are never compared: they cost, and are worth, different amounts.
    """
    judged = [record for record in records if record.status != FAILED]
    top = max(len(record.rungs) for record in judged)
    return min((r for r in judged if len(r.rungs) == top), key=lambda r: (r.metrics[metric], r.trial))


def write_trials(folder: Path, records: Sequence[Record]) -> None:
    """Write trials.csv, a row for each trial with its last metrics, and rungs.csv, one for each rung reached.

    A setting that the trial used otherwise than proposed, and reports among its metrics, is shown as used.
    Times are left out: the same search writes the same bytes.
    """
    trials = [_row(r, r.metrics) | {"status": r.status, "reason": r.reason} for r in records]
    rungs = [_row(r, metrics) for r in records for metrics in r.rungs]
    for name, rows in (("trials.csv", trials), ("rungs.csv", rungs)):
        write_csv(folder / name, rows)


def _row(record: Record, metrics: Mapping[str, float]) -> dict[str, Any]:
    return {"trial": record.trial, **record.settings, **metrics}


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows under the columns of the longest; what a row lacks is empty."""
    columns = max(rows, key=len, default={})
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns), restval="")
        writer.writeheader()
        writer.writerows(rows)


class _Child(Protocol):
    def log_metrics(self, values: Mapping[str, Any], step: int = 0) -> None: ...
    def set_tags(self, tags: Mapping[str, str]) -> None: ...
    def log_picture(self, name: str, png: str) -> None: ...
    def end(self, status: str = "FINISHED") -> None: ...


class _Parent(Protocol):
    def child(self, name: str, params: Mapping[str, Any] | None = None) -> _Child: ...


def tell(run: _Parent) -> Callable[[Record], None]:
    """An `on_trial` that records each trial as a child of a tracked run: metrics at every rung, a picture."""

    def on_trial(record: Record) -> None:
        child = run.child(f"trial {record.trial}", record.settings)
        for rung, metrics in enumerate(record.rungs):
            child.log_metrics(metrics, rung)
        if record.picture:
            child.log_picture("samples", record.picture)
        child.set_tags({"trial.status": record.status, "trial.reason": record.reason})
        child.end("FAILED" if record.status == FAILED else "FINISHED")

    return on_trial
