"""Run of a stage from its beginning to its end: its record, open for writing, and what it waits for."""

import contextlib
import errno
import json
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from pipeline.ncsn.errors import UserError
from pipeline.redaction import redact
from pipeline.tracking import process, shipping
from pipeline.tracking.record import (
    BEGIN,
    END,
    FOLDER,
    REFUSED,
    Address,
    Arguments,
    Delivered,
    Heading,
    Line,
    RecordFile,
    encode,
    locked,
    now,
    private,
    record_files,
)
from pipeline.tracking.recorder import NOWHERE, Answer, Nothing, Run, status_of

OPENED = FOLDER / "opened.json"
"""The pipeline that last began, and its store: its later stages do not wait to hear that it can be used."""
ERROR_LENGTH = 2000
POLL_S = 0.005
PATIENCE_S = 600.0
"""How long a delivery without headway, such as of a large file, is waited for."""
TELL_S = 5.0
"""After how long of it that is told."""
ROOM = 1 << 16
"""Bytes below which a disk is called full: a state is written beside the one that it replaces."""

Fact = tuple[object, ...]
"""What a line says that a later life of its stage must not say again."""
logger = logging.getLogger(__name__)


class Book:
    """Sink of a tracked stage: a record open for writing, this process's alone until it is closed.

    A stage that does what a killed one did continues its record, and so its run.

    Attributes:
        known: the facts of the lives before, which need not be written again.
        continued: whether there was such a life.
        lost: calls that could not be written.
    """

    answers = True

    def __init__(self, root: Path, heading: Heading) -> None:
        """
        Raises:
            OSError: the record cannot be written.
        """
        self.root, self.heading = root, heading
        (root / FOLDER).mkdir(parents=True, exist_ok=True)
        self.record, self._file = _left(root, heading) or _new(root, heading)
        before = self.record.lines()
        self.known = {fact for line in before for fact in _facts(line)}
        self.continued, self.lost = bool(before), 0
        self._end = before[-1].end if before else 0
        self._wrote, self._at = 0, 0
        self._lock = threading.Lock()
        self._last: Delivered | None = None
        try:
            self._append((), BEGIN, heading.arguments())
        except OSError:
            self.withdraw()
            raise

    def write(self, address: Address, call: str, arguments: Arguments, once: str | None = None) -> int:
        """Add a line, and return where it starts; a disk that does not take it is reported once."""
        new = self._new(address, call, arguments, once)
        if new is None:
            return NOWHERE
        # The snapshots in a checkpoint's folder are networks of their own.
        kept = {k: self._keep(v, deep=k != "checkpoint") if isinstance(v, Path) else v for k, v in new.items()}
        with self._lock:
            try:
                return self._append(address, call, kept, once)
            except (OSError, ValueError) as error:  # ValueError: the book is closed
                if not self.lost:
                    logger.warning("tracking: cannot write %s (%s)", self.record.path, error)
                self.lost += 1
        return NOWHERE

    def _new(self, address: Address, call: str, arguments: Arguments, once: str | None) -> Arguments | None:
        """The arguments without what an earlier life has written; None where nothing is left."""
        if (address, call, once) in self.known:
            return None
        if call != "log_metrics":
            return arguments
        facts = _points(address, arguments).items()
        values = {key: arguments["values"][key] for key, fact in facts if fact not in self.known}
        return {**arguments, "values": values} if values else None

    def _append(self, address: Address, call: str, arguments: Arguments, once: str | None = None) -> int:
        self._wrote = now()
        self._at = max(self._wrote, self._at + 1)  # MLflow shows the latest value, by this clock
        rest = line = encode(self._at, address, call, arguments, once)
        file = self._file.fileno()
        found = os.fstat(file)
        if found.st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "it was deleted")
        if found.st_size != self._end:  # torn by a kill, or below by a full disk
            os.ftruncate(file, self._end)
        try:
            while rest:
                rest = rest[os.write(file, rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(file, self._end)
            raise
        start, self._end = self._end, self._end + len(line)
        return start

    def _keep(self, path: Path, *, deep: bool) -> Path:
        """A copy of a file or folder that stays as it is until it is delivered: hard links, at best."""
        target = self.record.files / uuid.uuid4().hex / path.name
        try:
            target.parent.mkdir(parents=True)
            if path.is_dir():
                shutil.copytree(path, target, copy_function=_link, ignore=None if deep else _folders)
            elif path.exists():
                _link(path, target)
        except OSError as error:
            shutil.rmtree(target.parent, ignore_errors=True)  # half of a file is not delivered
            logger.warning("tracking: cannot keep %s until it is delivered (%s)", path, error)
        return target

    def wait(self, answer: Callable[[Delivered], Answer | None]) -> Answer | None:
        """What `answer` finds in the state of delivery, once there; None where that has trouble."""
        if self._last is not None:
            return answer(self._last)
        state, moved, told = self.record.delivered(), time.monotonic(), False
        while (found := answer(state)) is None:
            if (state.problem and state.tried >= self._wrote) or time.monotonic() - moved > PATIENCE_S:
                return None
            if not self.record.path.exists() or not shipping.ensure(self.root):
                return None
            if not told and time.monotonic() - moved > TELL_S:
                if _full(self.root):
                    return None
                told = True
                logger.info("tracking: %s is slow, or held by another process: waiting for it", self.heading.uri)
            time.sleep(POLL_S)
            before, state = state, self.record.delivered()
            moved = time.monotonic() if before.offset != state.offset else moved
        return found

    def settle(self) -> None:
        """Wait until all is delivered, or cannot be."""
        self.wait(lambda state: state.offset >= self._end or None)

    def close(self) -> Delivered:
        """Write no more; who delivers may delete the record. Returns what has become of it."""
        self._last = self.record.delivered()
        self._file.close()
        return self._last

    def withdraw(self) -> None:
        """Take the beginning back; what an earlier life has written stays."""
        self._last = Delivered()
        if not self.continued:
            self.record.remove()
        self._file.close()


def _facts(line: Line) -> list[Fact]:
    if line.call == "log_metrics":
        return list(_points(line.address, line.arguments).values())
    return [(line.address, line.call, line.once)] if line.once is not None else []


def _points(address: Address, arguments: Arguments) -> dict[str, Fact]:
    """The facts of metrics at a step by name; NaN equals NaN."""
    step, values = arguments.get("step", 0), arguments.get("values", {})
    return {key: (address, key, step, repr(value)) for key, value in values.items()}


def _folders(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if Path(folder, name).is_dir()]


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(Path(source).resolve(), target)
    except OSError:
        shutil.copy2(source, target)


def _new(root: Path, heading: Heading) -> tuple[RecordFile, IO[bytes]]:
    name = f"{now()}-{heading.name.replace(' ', '-')}-{uuid.uuid4().hex[:8]}"
    record = RecordFile(root / FOLDER / f"{name}.jsonl")
    flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND
    file = os.fdopen(private(str(record.path), flags), "ab", buffering=0)
    locked(file)
    return record, file


def _left(root: Path, heading: Heading) -> tuple[RecordFile, IO[bytes]] | None:
    """The newest record of a killed stage that did the same.

    What others of its name have left is deleted, if it is delivered.
    """
    found = None
    for record in reversed(record_files(root)):
        first = [line.heading() for line in record.lines()[:1]]
        if not first or first[0] is None or first[0].name != heading.name:
            continue
        try:
            file = record.open()
        except FileNotFoundError:  # delivered in this moment, and so deleted
            continue
        if not locked(file) or not record.path.exists():
            file.close()
        elif found is None and heading.attach is None and _continues(first[0], heading) and not record.ended():
            found = record, file
        else:
            if not record.pending():
                record.remove()
            file.close()
    return found


def _continues(begun: Heading, heading: Heading) -> bool:
    return all(getattr(begun, key) == getattr(heading, key) for key in ("identity", "uri", "experiment"))


@contextlib.contextmanager
def recording(root: Path, heading: Heading, *, refuse: bool) -> Iterator[Run]:
    """Record a stage: its end waits for the delivery only where nobody comes after it.

    Args:
        refuse: the first stage of a pipeline waits until its run has begun in the store.

    Raises:
        UserError: it waited, and the store or the disk of the record cannot be used.
    """
    waits = _waits(root, heading, refuse)
    book = _opened(root, heading, waits)
    if book is None:
        yield Run(Nothing())
        return
    run, how = Run(book), "FINISHED"
    try:
        yield run
    except BaseException as error:
        how = status_of(error)
        run.set_tags({"error": redact(f"{type(error).__name__}: {error}")[:ERROR_LENGTH]})
        raise
    finally:
        book.write((), END, {"status": how})
        if heading.alone or heading.last or heading.attach:
            book.settle()
        _report(book, book.close())


def _waits(root: Path, heading: Heading, refuse: bool) -> bool:
    if heading.parent or heading.attach:
        return True
    with contextlib.suppress(OSError, ValueError):
        owner, *store = json.loads((root / OPENED).read_text())
        if process.same(owner, heading.owner) and store == [heading.uri, heading.experiment]:
            return False
    return refuse


def _opened(root: Path, heading: Heading, waits: bool) -> Book | None:
    """The record, begun in the store where that is waited for; None on a disk that takes none."""
    try:
        book = Book(root, heading)
    except OSError as error:
        problem = (
            f"cannot write to {root / FOLDER}: {error.strerror}. Free space or change its rights, "
            "or set tracking.enabled: false in params.yaml."
        )
        if waits:
            raise UserError(problem) from error
        logger.warning("tracking: %s Nothing of this stage is recorded.", problem)
        return None
    shipping.ensure(root)
    if waits:
        _begun(book)
    return book


def _begun(book: Book) -> None:
    """Return when the run has begun in the store; raise UserError where it cannot."""
    if book.wait(lambda state: state.runs.get("")) is None:
        why = book.record.delivered().problem or _no_start(book.root)
        book.withdraw()
        raise UserError(why)
    names = [book.heading.owner, book.heading.uri, book.heading.experiment]
    with contextlib.suppress(OSError), open(book.root / OPENED, "w", opener=private) as file:
        json.dump(names, file)


def _no_start(root: Path) -> str:
    """Why no process delivers: a full disk, or the last line that one said."""
    if _full(root):
        return f"the disk of {root / FOLDER} is full: free space there, or set tracking.enabled: false in params.yaml."
    log = root / shipping.LOG
    said = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return f"tracking does not start ({redact(said[-1]) if said else 'it said nothing'}): see {log}."


def _full(root: Path) -> bool:
    return shutil.disk_usage(root / FOLDER).free < ROOM


def _report(book: Book, state: Delivered) -> None:
    """Warn of what did not arrive, if anything."""
    others = [text for text in _refusals(book.root) if not text.startswith(f"{book.record.path.stem} ")]
    if book.lost:
        logger.warning("tracking: %d calls could not be written to the record, and are lost", book.lost)
    if state.refused:
        logger.warning("tracking: %d records were refused, first %s", state.refused, state.reason)
    if others:
        count = len(others)
        logger.warning("tracking: %d records of earlier stages were refused, first %s", count, others[0])
    if state.problem:
        logger.warning(
            "tracking: %s What waits in %s is delivered by the next stage, or by `python -m pipeline.tracking ship`.",
            state.problem,
            book.root / FOLDER,
        )


def _refusals(root: Path) -> list[str]:
    """The lines of REFUSED that no stage has reported."""
    seen, found = (root / REFUSED).with_suffix(".seen"), b""
    with contextlib.suppress(OSError, ValueError):
        found = (root / REFUSED).read_bytes()
        start = int(seen.read_text()) if seen.exists() else 0
        if start < len(found):
            seen.write_text(str(len(found)))
        found = found[start:]
    return found.decode(errors="replace").splitlines()
