"""Record of a stage: a file of lines, one for each call on a run, and a note of how far it was delivered.

A line is `CHECKSUM {"at": ..., "run": ..., "call": ..., "arguments": ...}`. Lines are only ever added. Below
`.runs/tracking` of the repository: NAME.jsonl, the record; NAME.state, how far its delivery came; NAME.files,
copies of the files that are still to be delivered. Whoever writes a record holds its lock.
"""

import contextlib
import fcntl
import json
import os
import shutil
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

FOLDER = Path(".runs/tracking")
REFUSED = FOLDER / "refused.txt"
"""One line of text for each line of a record that could not be delivered, ever."""
BEGIN, END, DAMAGED = "begin", "end", "damaged"
"""Calls of the record itself; the last stands for a line whose checksum or layout is wrong."""
PATH = "$path"
VIEW = "rows"
"""The shared view of MLflow's UI that shows the rows with their numbers in columns."""

Address = tuple[int, ...]
"""Which child of which child a run is, counted from the stage's, which is ()."""
Arguments = dict[str, Any]
"""The arguments of a call by name: what JSON holds, and paths."""


def now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 10**6


def private(path: str, flags: int) -> int:
    """Opener of files that only this user may read."""
    return os.open(path, flags, 0o600)


class Record(NamedTuple):
    """What the store has of a run."""

    status: str
    """RUNNING, FINISHED, FAILED or KILLED."""
    tags: dict[str, str]


@dataclass(frozen=True)
class PipelineHeading:
    """What a stage's process knows of its pipeline's run."""

    named: bool
    """The title is the name of an experiment of DVC's."""
    title: str
    tags: dict[str, str]
    params: Arguments


@dataclass(frozen=True)
class Heading:
    """First line of a record: all that the beginning of its run needs."""

    uri: str
    """The tracking store, without its password; see `provenance.revealed`."""
    root: str
    """The repository."""
    experiment: str
    identity: str
    """SHA-256 of what the stage does: a killed stage's record is continued by one that does the same."""
    name: str
    params: dict[str, str]
    tags: dict[str, str]
    made_with: dict[str, str]
    owner: str
    """The process that the pipeline's run belongs to, as `process.key` names it."""
    alone: bool
    """The stage is its own owner: no `dvc` runs it."""
    last: bool
    """Nothing of the pipeline follows."""
    shows: list[dict[str, str]]
    """Tags of the runs whose results the stage shows without making any."""
    parent: str | None
    """The pipeline run's id, where the environment names it."""
    attach: str | None
    """Its own run's id, where another process began it."""
    pipeline: PipelineHeading

    def arguments(self) -> Arguments:
        """The arguments of the line."""
        return asdict(self)


_HEADING = TypeAdapter(Heading)


class Line(NamedTuple):
    """A call that a stage made on a run, as a record holds it."""

    start: int
    """The offset of its first byte, by which an answer names it."""
    end: int
    at: int
    """Milliseconds since 1970."""
    address: Address
    call: str
    arguments: Arguments
    once: str | None = None
    """What the call must not do twice on its run, however often its stage is killed; None: no matter."""

    @property
    def ends(self) -> bool:
        """Whether it ends a stage, well or by a failure: one that was killed may be continued."""
        return self.call == END and not self.address and self.arguments.get("status") != "KILLED"

    def heading(self) -> Heading | None:
        """The heading, where this line is a whole one whose values are of their types."""
        with contextlib.suppress(ValidationError):
            if self.call == BEGIN:
                return _HEADING.validate_python(self.arguments)
        return None


def encode(at: int, address: Address, call: str, arguments: Mapping[str, object], once: str | None = None) -> bytes:
    """A call as a line of bytes; numpy's numbers become JSON's."""
    said = {"at": at, "run": address, "call": call, "arguments": arguments}
    return _sealed(said if once is None else said | {"once": once})


def _decode(start: int, raw: bytes) -> Line:
    end = start + len(raw)
    try:
        said = _unsealed(raw)
        at, address, call, arguments = (said[key] for key in ("at", "run", "call", "arguments"))
        return Line(start, end, at, tuple(address), str(call), dict(arguments), said.get("once"))
    except (ValueError, KeyError, TypeError):
        return Line(start, end, 0, (), DAMAGED, {})


def _sealed(value: Mapping[str, object]) -> bytes:
    text = json.dumps(value, default=_plain).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _unsealed(raw: bytes) -> Arguments:
    text = raw[9:-1]
    if raw[:9] != b"%08x " % zlib.crc32(text):
        raise ValueError("the checksum is wrong")
    return dict(json.loads(text, object_hook=_paths))


def _plain(value: Any) -> object:
    if isinstance(value, Path):
        return {PATH: str(value)}
    return value.item() if hasattr(value, "item") else str(value)


def _paths(value: Arguments) -> Arguments | Path:
    return Path(value[PATH]) if value.keys() == {PATH} else value


@dataclass
class Delivered:
    """What became of a record: written by who delivers it, read by who wrote it."""

    offset: int = 0
    """All bytes before it have been delivered."""
    runs: dict[str, str] = field(default_factory=dict)
    """MLflow's run ids by address, as in "" or "0.1"."""
    parent: str | None = None
    """The pipeline run's id."""
    answers: Arguments = field(default_factory=dict)
    """By the start of the line that asked; empty where the answer is none."""
    problem: str = ""
    """Why the next line could not be delivered; empty while all goes well."""
    tried: int = 0
    """When that was found, in milliseconds since 1970."""
    refused: int = 0
    """Lines that the store would not have."""
    reason: str = ""
    """Why it would not have the first of them."""

    def is_sound(self) -> bool:
        """Whether each field is of its own kind, as in what this program writes."""
        blank = vars(Delivered()) | {"parent": self.parent and ""}
        return (
            self.offset.__class__ is int
            and self.offset >= 0
            and all(isinstance(value, type(blank[name])) for name, value in vars(self).items())
        )


class RecordFile:
    """A record by its path."""

    def __init__(self, path: Path) -> None:
        self.path, self._state = path, path.with_suffix(".state")
        self.files = path.with_suffix(".files")

    def size(self) -> int:
        """Bytes written; 0 once the record is gone."""
        with contextlib.suppress(FileNotFoundError):
            return self.path.stat().st_size
        return 0

    def lines(self, start: int = 0) -> list[Line]:
        """The whole lines from an offset on; the last one is left out where a kill has torn it."""
        found: list[Line] = []
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            file.seek(start)
            for raw in file:
                line = _decode(start, raw)
                if line.call == DAMAGED and not raw.endswith(b"\n"):
                    break
                found.append(line)
                start = line.end
        return found

    def delivered(self) -> Delivered:
        """What became of it; nothing yet where that cannot be read."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            found = Delivered(**_unsealed(self._state.read_bytes()))
            if found.is_sound():
                return found
        return Delivered()

    def acknowledge(self, state: Delivered) -> None:
        """Write down what became of it: a reader sees the old state or the new."""
        part, content = self._state.with_suffix(".state.part"), _sealed(asdict(state))
        with contextlib.suppress(FileNotFoundError):  # the whole folder was deleted
            try:
                with open(part, "wb", opener=private) as file:
                    file.write(content)
                part.replace(self._state)
            except OSError:
                # A full disk: the blocks that the file has are still there. A reader that sees it torn takes
                # nothing as delivered, and what it then delivers again is compared with the store.
                part.unlink(missing_ok=True)
                with contextlib.suppress(OSError), self._state.open("r+b") as file:
                    file.write(content)
                    file.truncate()

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
        with self._unwritten() as free:
            if free:
                self.remove()

    def set_aside(self) -> Path | None:
        """Keep what cannot be delivered where nobody looks for records; None while somebody writes it."""
        aside = self.path.with_suffix(".damaged")
        with self._unwritten() as free:
            if free:
                self.path.rename(aside)
                return aside
        return None

    @contextlib.contextmanager
    def _unwritten(self) -> Iterator[bool]:
        try:
            file = self.open()
        except FileNotFoundError:
            yield False
            return
        with file:
            yield locked(file)

    def remove(self) -> None:
        """Delete it with all that belongs to it; only for who holds its lock, so that nobody takes it up."""
        self.path.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)
        shutil.rmtree(self.files, ignore_errors=True)


def record_files(root: Path) -> list[RecordFile]:
    """All records of a repository, oldest first, since their names begin with their time."""
    return [RecordFile(path) for path in sorted((root / FOLDER).glob("*.jsonl"))]


def waiting(root: Path) -> list[RecordFile]:
    """The records of a repository with lines that were not delivered."""
    return [file for file in record_files(root) if file.pending()]


@contextlib.contextmanager
def held(path: Path) -> Iterator[IO[bytes] | None]:
    """A file open for appending and locked while the block runs; None where another holds it."""
    with open(path, "ab", opener=private) as file:
        yield file if locked(file) else None


def locked(file: IO[bytes]) -> bool:
    """Whether the file could be locked, until it is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
