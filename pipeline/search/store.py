"""Store of trials on disk, and the ledger that fills it: a search that is run again measures nothing twice.

Every decision of a search follows from the results of earlier trials. So a killed search is resumed by
running it again: what is known of a trial is reported at once, the rest runs. A longer search continues a
shorter one likewise: it takes measurements from it, and makes its own decisions. Trials lie in a folder named
by all that their metrics follow from, and there by their settings. The number of trials, the rungs and the
rules of halving name nothing.
"""

import contextlib
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import torch

from pipeline import program
from pipeline.files import write_text
from pipeline.ncsn.errors import UserError
from pipeline.search.algorithms import Budget
from pipeline.search.records import (
    FAILED,
    FINISHED,
    STOPPED,
    OnTrial,
    Settings,
    TrialRecord,
    TrialReport,
    best_trial,
    key,
)
from pipeline.training.lock import Lock, held

logger = logging.getLogger("pipeline.search")

ROOTS = ("pipeline.search.run", "pipeline.search.algorithms")
"""What decides which trials there are; what they compute follows from the parts of a search."""
PUBLISHED = "published"
"""A file in a search's folder once its stage's output is in place."""
ROLE = ("searcher", "the trials")
"""Of the process that holds a folder."""


class SearchStore:
    """Folders of a stage's searches, in which each trial is written as it ends."""

    def __init__(self, storage: Path, stage: str) -> None:
        """
        Args:
            storage: where the folders lie, `compute.storage`.
        """
        self._storage, self._stage = storage, stage
        self._folders: list[Path] = []
        self._scratch: list[Path] = []
        self._locks: dict[Path, Lock] = {}

    def folder(self, *parts: Any) -> Path:
        """The folder of the trials that follow from `parts`, see `fingerprint`; held until `release` or `publish`.

        Raises:
            UserError: another process searches there.
            OSError: it cannot be written to.
        """
        self._folders.append(self._held("search", *parts))
        (self._folders[-1] / PUBLISHED).unlink(missing_ok=True)
        return self._folders[-1]

    def scratch(self, *parts: Any) -> Path:
        """A folder for what unfinished trials need, such as states to train on from; held, and raises, as `folder`."""
        self._scratch.append(self._held("scratch", *parts))
        return self._scratch[-1]

    def publish(self) -> None:
        """Note that the stage's output is in place, delete its earlier finished searches, and `release` the rest.

        The newest stay, for a longer search to continue; what is unfinished, or in use, is never deleted.
        """
        for folder in filter(Path.is_dir, self._folders):
            (folder / PUBLISHED).touch()
        for folder in self._scratch:
            shutil.rmtree(folder, ignore_errors=True)
        earlier = {mark.parent for mark in self._storage.glob(f"search-{self._stage}-*/{PUBLISHED}")}
        for folder in earlier - set(self._folders):
            _delete(folder)
        self.release()

    @contextlib.contextmanager
    def unless_failed(self) -> Iterator[None]:
        """`release` the folders if the block fails; if it does not, they are still held after it."""
        try:
            yield
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let other processes use the folders; their files stay."""
        for lock in self._locks.values():
            lock.close()
        self._locks.clear()

    def _held(self, what: str, *parts: Any) -> Path:
        folder = self._named(what, *parts)
        if folder not in self._locks:
            folder.mkdir(parents=True, exist_ok=True)
            self._locks[folder] = held(*ROLE, folder)
        return folder

    def _named(self, what: str, *parts: Any) -> Path:
        return self._storage / f"{what}-{self._stage}-{fingerprint(*parts)[:32]}"


def _delete(folder: Path) -> None:
    """Delete a finished search, unless another process has begun to use it."""
    with contextlib.suppress(UserError, OSError):
        lock = held(*ROLE, folder)
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


class Journal:
    """A folder with a file for each trial that ended: whole, with its SHA-256, or not at all."""

    def __init__(self, folder: Path | None, rungs: Sequence[int]) -> None:
        """
        Args:
            folder: see `SearchStore`; None: nothing is kept.
            rungs: of the search that reads and writes.
        """
        self._folder, self._rungs = folder, list(rungs)

    def known(self) -> dict[str, TrialRecord]:
        """Records by `records.key`: what the trials on disk measured at rungs of this search."""
        if self._folder is None or not self._folder.is_dir():
            return {}
        found = [self._read(path) for path in sorted(self._folder.glob("trial_*.json"))]
        return {key(record.settings): record for record in found if record}

    def add(self, record: TrialRecord) -> None:
        """Write a trial; a full disk raises OSError."""
        if self._folder is not None:
            body = json.dumps({"record": asdict(record), "rungs": self._rungs})
            whole = {**json.loads(body), "sha256": _sha256(body)}
            write_text(self._folder / f"trial_{key(record.settings)}.json", json.dumps(whole))

    def _read(self, path: Path) -> TrialRecord | None:
        try:
            whole = json.loads(path.read_text(encoding="utf-8"))
            if whole.pop("sha256") != _sha256(json.dumps(whole)):
                raise ValueError("its hash is another")
            record = TrialRecord(**{**whole["record"], "rungs": tuple(whole["record"]["rungs"])})
            return _usable(record, _common(whole["rungs"], self._rungs))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("%s is damaged (%s): its trial runs again", path, error)
            return None


def _common(some: Sequence[int], others: Sequence[int]) -> int:
    """How many rungs two searches share, from the first one on."""
    pairs = zip(some, others, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(some), len(others)))


def _usable(record: TrialRecord, common: int) -> TrialRecord | None:
    """Part of a record that a search that shares this many rungs would measure too."""
    if record.status == FAILED and len(record.rungs) < common:
        return record
    return replace(record, rungs=record.rungs[:common], status=STOPPED, reason="") if common else None


class Ledger:
    """Takes what happens to the trials of a search, by their places from 0, in whatever order it does."""

    def __init__(self, metric: str, budget: Budget, journal: Journal, on_trial: OnTrial | None) -> None:
        self.known: Mapping[str, TrialRecord] = journal.known()
        self.records: list[TrialRecord] = []
        self._metric, self._budget, self._journal, self._on_trial = metric, budget, journal, on_trial
        self._live: dict[int, TrialRecord] = {}
        self._started: dict[int, float] = {}
        self._dead: list[TrialRecord] = []
        self._reused = 0
        self._begin = time.monotonic()
        if self.known:
            logger.info("%d trials were measured before: none of them is measured again", len(self.known))

    def start(self, place: int, settings: Settings) -> None:
        """A trial begins."""
        self._live[place] = TrialRecord(place + 1, settings)
        self._started[place] = time.monotonic()

    def report(self, place: int, report: TrialReport) -> None:
        """A trial reached a rung, or failed."""
        record = self._live[place]
        if "reason" in report:
            self._live[place] = replace(record, status=FAILED, reason=report["reason"])
            return
        rungs = (*record.rungs, report["metrics"])
        status = FINISHED if len(rungs) == len(self._budget.rungs) else STOPPED
        self._live[place] = replace(record, rungs=rungs, status=status, picture=report.get("picture", ""))

    def end(self, place: int, died: str = "") -> None:
        """A trial ended, or its process `died`, with this reason."""
        record = replace(self._live[place], seconds=time.monotonic() - self._started[place])
        if died:
            record = replace(record, status=FAILED, reason=died)
        earlier = self.known.get(key(record.settings))
        if earlier and _covers(earlier, record):
            record = replace(record, seconds=earlier.seconds)
            self._reused += 1
        else:
            self._keep(record, bool(died))
        self.records.append(record)
        self._log(record)
        if self._on_trial is not None:
            self._on_trial(record)

    def _keep(self, record: TrialRecord, died: bool) -> None:
        """Journal a trial; one whose process died only when a later one ends well.

        What kills the driver may kill the processes first: that is no failure of their trials.
        """
        self._dead.append(record)
        if not died:
            for each in self._dead:
                self._journal.add(each)
            self._dead.clear()

    def closed(self) -> list[TrialRecord]:
        """The records in the order of proposal.

        Raises:
            UserError: every trial failed; the message holds the first reason.
        """
        records = sorted(self.records, key=lambda record: record.trial)
        if len(records) != self._budget.num_trials:
            raise RuntimeError(f"the search ended after {len(records)} of {self._budget.num_trials} trials")
        if self._reused:
            logger.info("%d of %d trials were measured by an earlier search", self._reused, len(records))
        if all(record.status == FAILED for record in records):
            raise UserError(
                f"All {len(records)} trials of the search failed, the first with: {records[0].reason}. "
                "Fix that, or narrow the bounds of the search in params.yaml."
            )
        return records

    def _log(self, record: TrialRecord) -> None:
        done, total = len(self.records), self._budget.num_trials
        left = (time.monotonic() - self._begin) / done * (total - done)
        outcome = f"trial {record.trial}: {self._outcome(record)}"
        line = "%d of %d trials; %s; %s; about %.0f s left for these trials"
        logger.info(line, done, total, outcome, self._leader(), left)

    def _outcome(self, record: TrialRecord) -> str:
        reached = f"{record.status} at rung {len(record.rungs)} of {len(self._budget.rungs)}"
        if record.status == FAILED:
            return f"{reached} ({record.reason})"
        return f"{self._metric} {record.metrics[self._metric]:.4g}, {reached}"

    def _leader(self) -> str:
        if all(record.status == FAILED for record in self.records):
            return "none good so far"
        leader = best_trial(self.records, self._metric)
        return f"best {leader.metrics[self._metric]:.4g} (trial {leader.trial})"


def _covers(earlier: TrialRecord, record: TrialRecord) -> bool:
    """Whether all of a record was measured before."""
    newly_failed = record.status == FAILED != earlier.status
    return len(earlier.rungs) >= len(record.rungs) and not newly_failed


def fingerprint(*parts: Any) -> str:
    """SHA-256, 64 hexadecimal digits, of values and of the code that trials run.

    Args:
        parts: plain values, mappings, sequences, arrays, networks, functions of a module, and dataclasses
            made of these, or sections of params.yaml. A dataclass with a method `identity` counts as what that
            returns, and a feature space as its weights and its `config`.

    Raises:
        TypeError: a part is something else.
    """
    digest = hashlib.sha256(program.version(*ROOTS, *program.modules(parts)).encode())
    for piece in _pieces(parts):
        digest.update(piece)
    return digest.hexdigest()


def _sha256(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def _pieces(value: Any) -> Iterator[bytes | memoryview]:
    """A value as bytes that no other one has: its type, the number of its parts, and these."""
    if value is None or isinstance(value, bool | int | float | str):
        yield f"{type(value).__name__} {value!r};".encode()
    elif isinstance(value, np.generic):
        yield from _pieces(value.item())
    elif isinstance(value, np.ndarray):
        yield f"array {value.dtype} {value.shape};".encode()
        yield np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
    elif isinstance(value, torch.Tensor):
        yield from _pieces(value.detach().cpu().numpy())
    elif isinstance(value, torch.nn.Module):
        yield from _pieces([str(value), dict(value.state_dict())])
    elif isinstance(value, Mapping):
        yield f"mapping {len(value)};".encode()
        yield from (piece for item in sorted(value.items()) for each in item for piece in _pieces(each))
    elif isinstance(value, list | tuple | range):
        yield f"sequence {len(value)};".encode()
        yield from (piece for each in value for piece in _pieces(each))
    elif hasattr(value, "tensors") and hasattr(value, "config"):  # a feature space of any kind
        weights = hashlib.sha256(value.tensors()).hexdigest()
        yield from _pieces([type(value).__module__, weights, value.config(), value.device])
    elif hasattr(type(value), "model_fields"):  # a section of params.yaml
        yield from _pieces(dict(value))
    elif is_dataclass(value) and not isinstance(value, type):
        yield f"{type(value).__module__}.{type(value).__qualname__};".encode()
        yield from _pieces(value.identity() if hasattr(value, "identity") else vars(value))
    elif isinstance(value, FunctionType) and "<" not in value.__qualname__:
        yield f"{value.__module__}.{value.__qualname__};".encode()
    else:
        raise TypeError(f"a search cannot be distinguished from another by a {type(value).__qualname__}")
