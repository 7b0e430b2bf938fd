"""The stage's side of its record: written at once, delivered by another process, asked after at need."""

import contextlib
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pipeline.tracking import shipping
from pipeline.tracking.journal import FOLDER, Delivered, Journal, Line, journals, locked
from pipeline.tracking.notes import Address, as_line, now

POLL_S = 0.005
PATIENCE_S = 600.0
"""How long a delivery without headway, such as of a large file, is waited for."""

Answer = TypeVar("Answer")
logger = logging.getLogger(__name__)


class Book:
    """A record open for writing, this process's alone until it is closed.

    A stage that does what a killed one did goes on with its record, and so with its run.

    Attributes:
        known: `facts` of the lives before, which need not be written again.
        continued: whether there was such a life.
    """

    def __init__(self, root: Path, heading: Mapping[str, Any]) -> None:
        self.root, self.heading = root, heading
        (root / FOLDER).mkdir(parents=True, exist_ok=True)
        self.journal, self._file = _left(root, heading) or _new(root, heading)
        before = self.journal.lines()
        self.known = {fact for line in before for fact in facts(line)}
        self._lock, self._torn, self._copies = threading.Lock(), bool(before), len(before)
        self._last: Delivered | None = None
        self._wrote, self._at, self.continued = 0, 0, bool(before)
        self.write((), "begin", heading)

    def write(self, address: Address, call: str, arguments: Mapping[str, Any]) -> int:
        """Add a line, and return where it starts; a disk that does not take it is told, once, and no more."""
        with self._lock:
            self._wrote = now()
            self._at = max(self._wrote, self._at + 1)  # MLflow shows the latest value, by this clock
            line = as_line(self._at, address, call, arguments)
            start = self.journal.size() + self._torn
            try:
                os.write(self._file.fileno(), b"\n" * self._torn + line)
                self._torn = self.journal.size() != start + len(line)
            except (OSError, ValueError) as error:  # ValueError: the book is closed
                if not self._torn:
                    logger.warning("tracking: cannot write %s (%s)", self.journal.path, error)
                self._torn = True
        return start

    def keep(self, path: Path, *, deep: bool = True) -> Path:
        """A copy of a file or folder that stays as it is until it is delivered: hard links, at best.

        Args:
            deep: with the folders in it.
        """
        self._copies += 1
        target = self.journal.files / str(self._copies) / path.name
        with contextlib.suppress(OSError):
            target.parent.mkdir(parents=True)
            if path.is_dir():
                shutil.copytree(path, target, copy_function=_link, ignore=None if deep else _folders)
            elif path.exists():
                _link(path, target)
        return target

    def wait(self, answer: Callable[[Delivered], Answer | None]) -> Answer | None:
        """What `answer` finds in the state of delivery, once there; None where that has trouble."""
        if self._last is not None:
            return answer(self._last)
        state, moved = self.journal.delivered(), time.monotonic()
        while (found := answer(state)) is None:
            if (state.problem and state.tried >= self._wrote) or time.monotonic() - moved > PATIENCE_S:
                return None
            if not shipping.ensure(self.root):
                return None
            time.sleep(POLL_S)
            before, state = state, self.journal.delivered()
            moved = time.monotonic() if before.offset != state.offset else moved
        return found

    def settle(self) -> None:
        """Wait until all is delivered, or cannot be."""
        size = self.journal.size()
        self.wait(lambda state: state.offset >= size or None)

    def close(self) -> Delivered:
        """Write no more; who delivers may delete the record. Returns what has become of it."""
        self._last = self.journal.delivered()
        self._file.close()
        return self._last

    def withdraw(self) -> None:
        """Take the beginning back; what an earlier life has written stays."""
        self._last = Delivered()
        if not self.continued:
            self.journal.remove()
        self._file.close()


def facts(line: Line) -> list[tuple[Any, ...]]:
    """What a line says that a later life of its stage would repeat."""
    told = line.arguments
    if line.call == "log_metrics":
        return [point(line.address, key, value, told["step"]) for key, value in told["values"].items()]
    if line.call == "log_picture":
        return [(line.address, "picture", told["name"])]
    if line.call == "child":
        return [(line.address, "child", told["number"], told["name"])]
    if line.call == "log_network":
        return [(line.address, "network", told["name"], told["identity"])]
    return []


def point(address: Address, key: str, value: float, step: int) -> tuple[Any, ...]:
    """A metric's value at a step, so that NaN equals NaN."""
    return (address, key, step, repr(value))


def _folders(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if Path(folder, name).is_dir()]


def _link(source: Any, target: Any) -> None:
    try:
        os.link(Path(source).resolve(), target)
    except OSError:
        shutil.copy2(source, target)


def _new(root: Path, heading: Mapping[str, Any]) -> tuple[Journal, Any]:
    name = f"{now()}-{heading['name'].replace(' ', '-')}-{uuid.uuid4().hex[:8]}"
    journal = Journal(root / FOLDER / f"{name}.jsonl")
    file = journal.path.open("ab", buffering=0)
    locked(file)
    return journal, file


def _left(root: Path, heading: Mapping[str, Any]) -> tuple[Journal, Any] | None:
    """The newest record of a killed stage that did the same.

    What others of its name have left goes, if it is delivered.
    """
    found = None
    for journal in reversed(journals(root)):
        first = journal.lines()[:1]
        if not first or first[0].arguments["name"] != heading["name"]:
            continue
        try:
            file = journal.open()
        except FileNotFoundError:  # delivered in this moment, and so deleted
            continue
        if not locked(file) or not journal.path.exists():
            file.close()
        elif found is None and heading["attach"] is None and _continues(journal, heading):
            found = journal, file
        else:
            if not journal.pending():
                journal.remove()
            file.close()
    return found


def _continues(journal: Journal, heading: Mapping[str, Any]) -> bool:
    begun = journal.lines()[0].arguments
    same = all(begun[key] == heading[key] for key in ("identity", "uri", "experiment"))
    return same and not journal.ended()
