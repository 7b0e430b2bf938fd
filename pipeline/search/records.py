"""Record of a trial: what it measured at each rung and what became of it, in memory, as CSV and in MLflow."""

import csv
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypedDict

import numpy as np

from pipeline import pictures

Metrics = Mapping[str, float]
Shared = Mapping[str, object]
"""Arguments that all trials of a search have in common, by name."""


class RungMetrics(dict[str, float]):
    """Metrics of a trial at a rung, with samples that are none of them: uint8 (N, C, H, W), for MLflow."""

    def __init__(self, metrics: Metrics, samples: np.ndarray) -> None:
        super().__init__(metrics)
        self.samples = samples


Trial = Callable[..., Iterator[Metrics]]
"""Called as `trial(settings, **shared)`; yields once at every rung, maybe a `RungMetrics`."""


Settings = dict[str, Any]
"""Numbers, or names where there is a choice."""
FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"

OnTrial = Callable[["TrialRecord"], None]
"""Called with each record as its trial ends."""


@dataclass(frozen=True)
class TrialRecord:
    """Record of one trial."""

    trial: int
    """From 1, in the order of proposal."""
    settings: Settings
    rungs: tuple[dict[str, float], ...] = ()
    """The metrics at each rung reached."""
    status: str = STOPPED
    reason: str = ""
    seconds: float = 0.0
    picture: str = field(default="", repr=False)
    """For MLflow alone: samples at the last rung reached, a PNG in base64; no decision reads it."""

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics at the last rung reached; empty if there was none."""
        return self.rungs[-1] if self.rungs else {}


def best_trial(records: Sequence[TrialRecord], metric: str) -> TrialRecord:
    """The record with the smallest `metric` among those that reached the highest rung.

    Metrics of different rungs are never compared: they cost, and are worth, different amounts.
    """
    judged = [record for record in records if record.status != FAILED]
    top = max(len(record.rungs) for record in judged)
    return min((r for r in judged if len(r.rungs) == top), key=lambda r: (r.metrics[metric], r.trial))


class TrialReport(TypedDict, total=False):
    """Message from a trial to its search, at a rung or when it fails: plain, since Ray Tune carries it."""

    value: float
    """What is minimised; infinity for a failure."""
    rung: int
    """From 0."""
    metrics: dict[str, float]
    picture: str
    reason: str
    """Of a failure, which has no rung."""


@dataclass(frozen=True)
class TrialTask:
    """Task of every trial of a search, in its process."""

    trial: Trial
    metric: str
    shared: Shared
    num_rungs: int
    known: Mapping[str, TrialRecord]
    """By `key`, what was measured before at rungs of this search."""

    def reports(self, settings: Settings) -> Iterator[TrialReport]:
        """Report what is known of these settings, then run the trial if a rung is missing.

        A trial cannot begin in the middle: one that is known in part runs from its start, unreported up to
        the rung that is missing. So a trial that halving stops before that rung does not run at all.
        """
        known = self.known.get(key(settings))
        yield from _replayed(known, self.metric) if known else ()
        reached = len(known.rungs) if known else 0
        if reached < self.num_rungs and not (known and known.status == FAILED):
            yield from self._run(settings, reached)

    def _run(self, settings: Settings, reached: int) -> Iterator[TrialReport]:
        """A report for each rung after those `reached`; a failure is reported as the worst value, not raised.

        An exception would cost the worker process, and Optuna ignores failed trials: it would go there again.
        """
        try:
            for rung, metrics in enumerate(self.trial(dict(settings), **self.shared)):
                if not math.isfinite(metrics[self.metric]):
                    raise FloatingPointError(f"{self.metric} is {metrics[self.metric]} at rung {rung + 1}")
                if rung >= reached:
                    picture = png(metrics.samples) if isinstance(metrics, RungMetrics) else ""
                    yield _reached(rung, {n: _plain(v) for n, v in metrics.items()}, self.metric, picture)
        except Exception as error:
            yield _failed(f"{type(error).__name__}: {error}")


def key(settings: Settings) -> str:
    """Name of a trial's settings, 16 hexadecimal digits: equal settings have equal names."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _replayed(record: TrialRecord, metric: str) -> Iterator[TrialReport]:
    for rung, metrics in enumerate(record.rungs):
        yield _reached(rung, metrics, metric, record.picture)
    if record.status == FAILED:
        yield _failed(record.reason)


def _reached(rung: int, metrics: Mapping[str, float], metric: str, picture: str) -> TrialReport:
    return {"value": float(metrics[metric]), "rung": rung, "metrics": dict(metrics), "picture": picture}


def _failed(reason: str) -> TrialReport:
    return {"value": math.inf, "reason": reason}


def _plain(value: Any) -> Any:
    """A scalar of numpy or torch as Python's, which JSON holds."""
    return value.item() if hasattr(value, "item") else value


ROWS, COLUMNS, LEAST, WIDTH = 2, 8, 32, 1024
"""Images of a picture, and in pixels the least width of one and the most of all."""
SHOWN = ROWS * COLUMNS


def png(images: np.ndarray) -> str:
    """Picture of the first samples, row by row: a PNG in base64; each pixel a square of whole pixels.

    Args:
        images: uint8 (N, C, H, W), C 1 or 3, N at least 1.
    """
    _, channels, height, width = images.shape
    columns = min(COLUMNS, len(images), max(1, WIDTH // width))
    rows, factor = min(ROWS, len(images) // columns), max(1, LEAST // width)
    cells = images[: rows * columns].reshape(rows, columns, channels, height, width)
    pixels = cells.transpose(0, 3, 1, 4, 2).reshape(rows * height, columns * width, channels)
    large = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    return pictures.png(large[:, :, 0] if channels == 1 else large)


def write_trials(folder: Path, records: Sequence[TrialRecord]) -> None:
    """Write trials.csv, a row for each trial with its last metrics, and rungs.csv, one for each rung reached.

    A setting that the trial used otherwise than proposed, and reports among its metrics, is shown as used.
    Times are left out: the same search writes the same bytes.
    """
    settings = dict.fromkeys(name for record in records for name in record.settings)
    numbers = dict.fromkeys(name for record in records for rung in record.rungs for name in rung)

    def row(record: TrialRecord, metrics: Metrics) -> dict[str, object]:
        used = {name: metrics.get(name, "") for name in numbers} if metrics else {}
        return {"trial": record.trial, **{n: record.settings.get(n, "") for n in settings}, **used}

    trials = [row(r, r.metrics) | {"status": r.status, "reason": r.reason} for r in records]
    write_csv(folder / "trials.csv", trials)
    write_csv(folder / "rungs.csv", [row(r, metrics) for r in records for metrics in r.rungs])


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows under the columns of the longest; what a row lacks is empty."""
    columns = max(rows, key=len, default={})
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns), restval="")
        writer.writeheader()
        writer.writerows(rows)


class _Child(Protocol):
    def log_metrics(self, values: Mapping[str, object], step: int = 0) -> None: ...
    def set_tags(self, tags: Mapping[str, str]) -> None: ...
    def log_picture(self, name: str, png: str) -> None: ...
    def end(self, status: str = "FINISHED") -> None: ...


class _Parent(Protocol):
    def child(self, name: str, params: Mapping[str, object] | None = None) -> _Child: ...


def track_trials(run: _Parent) -> OnTrial:
    """Recorder of trials as children of a tracked run: metrics at every rung, and a picture."""

    def on_trial(record: TrialRecord) -> None:
        child = run.child(f"trial {record.trial}", record.settings)
        for rung, metrics in enumerate(record.rungs):
            child.log_metrics(metrics, rung)
        if record.picture:
            child.log_picture("samples", record.picture)
        child.set_tags({"trial.status": record.status, "trial.reason": record.reason})
        child.end("FAILED" if record.status == FAILED else "FINISHED")

    return on_trial
