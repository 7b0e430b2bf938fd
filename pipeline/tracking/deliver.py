"""Delivery of records to their stores: each line in order, acknowledged once the store has it.

A line that may have arrived without an acknowledgement is compared with what the store has, so that it
arrives once. One that is damaged, or that the store will never take, is noted and passed over.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.ncsn.errors import UserError
from pipeline.redaction import redact
from pipeline.tracking import mlflow_store, pipeline_run, process
from pipeline.tracking.mlflow_store import BATCH, Experiment, Point, RefusedError, StoredRun, UnreachableError
from pipeline.tracking.record import (
    BEGIN,
    DAMAGED,
    END,
    REFUSED,
    Arguments,
    Heading,
    Line,
    RecordFile,
    now,
    private,
    record_files,
    waiting,
)

POLL_S = 0.05
PAUSE_S = 2.0
"""How long what failed is left alone."""
GRACE_S = 5.0
"""How long what fails is tried after the pipeline's end."""
OWNERS_S = 0.5
"""How often it is asked whether the pipeline has ended."""

logger = logging.getLogger(__name__)


class Delivery:
    """Delivers a record, from where an earlier process came to.

    Attributes:
        uri: of its store.
        owners: the processes that the stage's lives belong to, as `process.key` names them.
        ended: whether it ends with its stage's end, which nobody continues, and all is delivered.
        headless: whether its first line is damaged, so that nobody knows where it belongs.
    """

    def __init__(self, record: RecordFile, opened: Callable[[Heading], Experiment]) -> None:
        """
        Args:
            opened: from a heading to its store.
        """
        self.record, self._opened = record, opened
        self.state = record.delivered()
        self.uri, self.owners = "", set[str]()
        self.ended = record.ended() and not record.pending()
        self._heading: Heading | None = None
        self._doubtful, self._told = 0, 0
        lines = record.lines()
        self.headless = any(line.heading() is None for line in lines[:1])
        for line in lines:
            self._doubtful = line.end
            heading = self._read(line)
            if heading and line.end <= self.state.offset:
                self._heading = heading

    def _read(self, line: Line) -> Heading | None:
        heading = line.heading()
        if heading:
            self.uri = heading.uri
            self.owners.add(heading.owner)
        return heading

    def advance(self) -> bool:
        """Deliver what is there; returns whether there was anything.

        Raises:
            UnreachableError: the store cannot be used now.
            UserError: the run cannot begin in it.
        """
        lines = self.record.lines(self.state.offset)
        for line in lines:
            self._read(line)
        for batch in _batches(lines):
            self._attempt(batch)
        return bool(lines)

    def _attempt(self, batch: list[Line]) -> None:
        """Deliver or refuse lines, and acknowledge them."""
        try:
            self._deliver(batch)
        except RefusedError as error:
            if len(batch) > 1:  # one of them spoils the others
                self._doubtful = max(self._doubtful, batch[-1].end)
                for line in batch:
                    self._attempt([line])
                return
            self._refuse(batch[0], error, str(error))
        except UserError as error:
            self._doubtful = max(self._doubtful, batch[-1].end)
            self.waits(str(error))
            raise
        except Exception as error:  # content that no code foresaw must not hold up all that follows
            self._refuse(batch[0], error, f"{type(error).__name__}: {error}")
        self.state.offset, self.state.problem = batch[-1].end, ""
        self.ended = batch[-1].ends
        self.record.acknowledge(self.state)

    def _refuse(self, line: Line, error: Exception, reason: str) -> None:
        """Note a line that is passed over; a run that cannot begin is an error."""
        reason = redact(reason)
        if line.heading():
            self.waits(reason)
            raise error if isinstance(error, UserError) else UserError(reason)
        if line.call in QUESTIONS:
            self.state.answers[str(line.start)] = ""
        self.state.refused += 1
        self.state.reason = self.state.reason or f"{line.call}: {reason}"
        note(self.record, f"{line.call}: {reason}")

    def waits(self, problem: str) -> None:
        """Let whoever waits know why the lines that are there cannot be delivered."""
        if self.record.size() != self._told:
            self._told = self.record.size()
            self.state.problem, self.state.tried = problem, now()
            self.record.acknowledge(self.state)

    def _deliver(self, batch: list[Line]) -> None:
        line, doubtful = batch[0], batch[0].start < self._doubtful
        if line.call == DAMAGED or (line.call == BEGIN and not line.heading()):
            raise RefusedError(self.record.path.name, f"the line at byte {line.start} is damaged")
        if heading := line.heading():
            self._heading = heading
            store = self._opened(heading)
            self.state.runs[""], self.state.parent = pipeline_run.begin(store, heading, self._mark(""), line.at)
        elif line.call in QUESTIONS:
            self.state.answers[str(line.start)] = QUESTIONS[line.call](self._store, **line.arguments)
        elif line.call == "child":
            self._child(self._run(line, doubtful), line)
        elif line.call == END:
            self._end(self._run(line, doubtful).id, line)
        else:
            arguments = {"points": _points(batch)} if line.call == "log_metrics" else line.arguments
            mlflow_store.make(line.call, self._run(line, doubtful), arguments)

    @property
    def _begun(self) -> Heading:
        if self._heading is None:
            raise RefusedError(self.record.path.name, "its run was not begun")
        return self._heading

    @property
    def _store(self) -> Experiment:
        return self._opened(self._begun)

    def _run(self, line: Line, doubtful: bool) -> StoredRun:
        place = ".".join(map(str, line.address))
        if place not in self.state.runs:
            raise RefusedError(self._begun.uri, "its run was not begun")
        return StoredRun(self._store, self.state.runs[place], self.state.parent, line.at, doubtful)

    def _child(self, run: StoredRun, line: Line) -> None:
        place = ".".join(map(str, (*line.address, line.arguments["number"])))
        mark = {pipeline_run.RECORD: self._mark(place)}
        tags = process.tags("trial") | {"pipeline.process": self._begun.tags["pipeline.process"]}
        left = run.experiment.search(mark) if run.doubtful else []
        made = left[0].info.run_id if left else None
        made = made or run.experiment.create(line.arguments["name"], tags | mark, run.id, line.at)
        self.state.runs[place] = made
        params = line.arguments.get("params") or {}
        mlflow_store.make("log_params", StoredRun(run.experiment, made), {"params": params})

    def _end(self, run_id: str, line: Line) -> None:
        status = line.arguments["status"]
        if line.address:
            self._store.end(run_id, status, line.at)
        else:
            pipeline_run.end(self._store, self._begun, run_id, self.state.parent, status, line.at)

    def _mark(self, place: str) -> str:
        return f"{self.record.path.stem}/{place}"


def _find(store: Experiment, tags: dict[str, str]) -> str:
    found = store.search(tags, status="FINISHED")
    return str(found[0].info.run_id) if found else ""


def _tags_of(store: Experiment, run_id: str) -> Arguments:
    found = store.get(run_id)
    return dict(found.data.tags) if found else {}


QUESTIONS: dict[str, Callable[..., object]] = {"find": _find, "tags_of": _tags_of}
"""Calls that are answered."""


def note(record: RecordFile, reason: str) -> None:
    """Add a line to REFUSED, which stages and `ship` report."""
    text = f"{record.path.stem} {reason}"
    logger.warning("refused: %s", text)
    with contextlib.suppress(OSError), open(record.path.parent / REFUSED.name, "a", opener=private) as file:
        file.write(text.replace("\n", " ") + "\n")


def _points(batch: list[Line]) -> list[Point]:
    return [
        Point(key, value, line.at, line.arguments.get("step", 0))
        for line in batch
        for key, value in line.arguments["values"].items()
    ]


def _batches(lines: list[Line]) -> Iterator[list[Line]]:
    """Lines one by one, but metrics of one run that follow each other together."""
    batch: list[Line] = []
    size = 0
    for line in lines:
        more = len(line.arguments.get("values", ())) if line.call == "log_metrics" else BATCH
        alike = batch and (line.call, line.address) == (batch[0].call, batch[0].address)
        if batch and not (alike and size + more <= BATCH):
            yield batch
            batch, size = [], 0
        batch, size = [*batch, line], size + more
    if batch:
        yield batch


class Deliverer:
    """Delivers the records of a repository, alone, in the order in which they were begun."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._deliveries: dict[Path, Delivery] = {}
        self._stores: dict[tuple[str, str], Experiment] = {}
        self._paused: dict[str, tuple[float, str]] = {}
        """Until when a store, by its uri, or a record, by its path, is left alone, and why."""
        self._owners: set[str] = set()
        self.silent = ""
        """Why a store could not be used; empty where all that are wanted answered."""

    def once(self) -> bool:
        """Deliver what can be; returns whether anything was. What is through and ended is deleted."""
        self.silent = ""
        there = {record.path: record for record in record_files(self.root) if record.size()}
        for path in self._deliveries.keys() - there.keys():
            del self._deliveries[path]
        advanced = [self._advance(record) for record in there.values()]
        return any(advanced)

    def _advance(self, record: RecordFile) -> bool:
        if record.path not in self._deliveries:
            self._deliveries[record.path] = Delivery(record, self._opened)
        delivery = self._deliveries[record.path]
        if delivery.headless:
            return self._set_aside(record)
        keys = {UnreachableError: delivery.uri, UserError: str(record.path)}
        for until, why in filter(None, map(self._paused.get, keys.values())):
            if time.monotonic() < until:
                self.silent = why
                delivery.waits(why)
                return False
        try:
            done = delivery.advance()
        except UserError as error:
            key = keys[UnreachableError if isinstance(error, UnreachableError) else UserError]
            self._paused[key] = (time.monotonic() + PAUSE_S, str(error))
            self.silent = str(error) if isinstance(error, UnreachableError) else self.silent
            return False
        finally:
            self._owners |= delivery.owners
        if not done and delivery.ended:
            record.discard()
        return done

    def _set_aside(self, record: RecordFile) -> bool:
        if kept := record.set_aside():
            note(record, f"its first line is damaged, so that none can be delivered: kept as {kept}")
        return False

    def _opened(self, heading: Heading) -> Experiment:
        key = heading.uri, heading.experiment
        if key not in self._stores:
            self._stores[key] = Experiment(key[0], Path(heading.root), key[1])
        return self._stores[key]

    def _sweep(self) -> None:
        """End what the pipelines left RUNNING: a run of a part of `dvc.yaml` has no last stage that would."""
        for store in self._stores.values():
            with contextlib.suppress(UserError):  # the next pipeline does it
                pipeline_run.sweep(store)

    def follow(self, stop: threading.Event) -> None:
        """Deliver while a process that the records belong to lives, and then what is left and can be."""
        ended: float | None = None
        asked = 0.0
        while not stop.is_set():
            if self.once():
                ended = None
                continue
            if time.monotonic() - asked > OWNERS_S:
                asked = time.monotonic()
                alive = any(not process.gone(owner) for owner in self._owners)
                ended = None if alive else ended or asked
            if ended and (not waiting(self.root) or time.monotonic() - ended > GRACE_S):
                self._sweep()
                return
            stop.wait(POLL_S)
