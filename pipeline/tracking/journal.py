"""The record of a stage on this disk: lines of JSON, only ever added, and how far they were delivered.

Below `.runs/tracking` of the repository: NAME.jsonl, the record; NAME.state, what its delivery came to;
NAME.files, copies of the files that are still to be delivered. Whoever writes a record holds its lock.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

from pipeline.tracking.notes import Address

FOLDER = Path(".runs/tracking")


class Line(NamedTuple):
    """A call that a stage made on a run: see `notes.as_line`."""

    start: int
    """The offset of its first byte, by which an answer names it."""
    end: int
    at: int
    """Milliseconds since 1970."""
    address: Address
    call: str
    arguments: dict[str, Any]

    @property
    def ends(self) -> bool:
        """Whether it ends a stage, well or by a failure: one that was killed may be gone on with."""
        return self.call == "end" and not self.address and self.arguments["status"] != "KILLED"


@dataclass
class Delivered:
    """What became of a record: written by who delivers it, read by who wrote it."""

    offset: int = 0
    """All bytes before it have been delivered."""
    runs: dict[str, str] = field(default_factory=dict)
    """MLflow's run ids by address, as in "" or "0.1"."""
    parent: str | None = None
    """The pipeline run's id."""
    answers: dict[str, Any] = field(default_factory=dict)
    """By the start of the line that asked."""
    problem: str = ""
    """Why the next line could not be delivered; empty while all goes well."""
    tried: int = 0
    """When that was found, in milliseconds since 1970."""
    refused: list[str] = field(default_factory=list)
    """Why the store would not have lines, a reason for each."""


class Journal:
    """A stage's record by its path."""

    def __init__(self, path: Path) -> None:
        self.path, self._state = path, path.with_suffix(".state")
        self.files = path.with_suffix(".files")

    def size(self) -> int:
        """Bytes written; 0 once the record is gone."""
        with contextlib.suppress(FileNotFoundError):
            return self.path.stat().st_size
        return 0

    def lines(self, start: int = 0) -> list[Line]:
        """The whole lines from an offset on; one that a kill has torn is passed over."""
        found = []
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            file.seek(start)
            for raw in file:
                if not raw.endswith(b"\n"):
                    break
                with contextlib.suppress(ValueError, TypeError):
                    at, address, call, arguments = json.loads(raw)
                    found.append(Line(start, start + len(raw), at, tuple(address), call, arguments))
                start += len(raw)
        return found

    def delivered(self) -> Delivered:
        """What became of it; nothing yet where that cannot be read."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            return Delivered(**json.loads(self._state.read_bytes()))
        return Delivered()

    def acknowledge(self, state: Delivered) -> None:
        """Write down what became of it: a reader sees the old state or the new."""
        part = self._state.with_suffix(".state.part")
        with contextlib.suppress(FileNotFoundError):  # the whole folder was deleted
            part.write_text(json.dumps(asdict(state)))
            part.replace(self._state)

    def pending(self) -> bool:
        """Whether there is a line that was not delivered."""
        offset = self.delivered().offset
        return self.size() > offset and bool(self.lines(offset))

    def ended(self) -> bool:
        """Whether its last line ends its stage."""
        return any(line.ends for line in self.lines()[-1:])

    def open(self) -> IO[bytes]:
        """Its file, for adding lines.

        Raises:
            FileNotFoundError: if the record is gone; opening does not bring it back, empty.
        """
        return os.fdopen(os.open(self.path, os.O_WRONLY | os.O_APPEND), "ab", buffering=0)

    def discard(self) -> None:
        """Delete it, unless somebody writes it now."""
        with contextlib.suppress(FileNotFoundError), self.open() as file:
            if locked(file):
                self.remove()

    def remove(self) -> None:
        """Delete it with all that belongs to it; only for who holds its lock, so that nobody takes it up."""
        self.path.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)
        shutil.rmtree(self.files, ignore_errors=True)


def journals(root: Path) -> list[Journal]:
    """All records of a repository, oldest first, since their names begin with their time."""
    return [Journal(path) for path in sorted((root / FOLDER).glob("*.jsonl"))]


def waiting(root: Path) -> list[Journal]:
    """The records of a repository with lines that were not delivered."""
    return [journal for journal in journals(root) if journal.pending()]


@contextlib.contextmanager
def held(path: Path) -> Iterator[IO[bytes] | None]:
    """A file open for appending and locked while the block runs; None where another holds it."""
    with path.open("ab") as file:
        yield file if locked(file) else None


def locked(file: IO[bytes]) -> bool:
    """Whether the file could be locked, until it is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
