"""Lock of a kept folder: two writers in it would break each other's files."""

import contextlib
import fcntl
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pipeline.ncsn.errors import UserError

POLL_S = 0.1


@contextlib.contextmanager
def only(role: str, run_folder: Path, *, patience_s: float = 0.0) -> Iterator[None]:
    """Hold a run's folder in a role while the block runs; the system releases it when the process dies.

    Args:
        role: "driver", who starts workers, or "writer", the worker that saves.
        patience_s: how long to wait for another to release it, such as one whose driver was just killed.

    Raises:
        UserError: another process holds it, named by its host and process id.
        OSError: the folder cannot be written to.
    """
    lock = held(role, "the training", run_folder, patience_s=patience_s)
    try:
        yield
    finally:
        lock.close()


class Lock:
    """A folder held in a role until `close`, at the latest when the process dies."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self.close = file.close

    def __del__(self) -> None:
        self._file.close()

    @contextlib.contextmanager
    def unless_failed(self) -> Iterator[None]:
        """Let go if the block fails; if it does not, the folder is still held after it."""
        try:
            yield
        except BaseException:
            self.close()
            raise


def held(role: str, of: str, folder: Path, *, patience_s: float = 0.0) -> Lock:
    """Hold a folder in a role.

    Args:
        of: what is in the folder, such as "the training".
        patience_s: see `only`.

    Raises:
        UserError, OSError: see `only`.
    """
    lock = Lock(file := (folder / f".{role}.lock").open("a+"))
    with lock.unless_failed():
        _take(file, f"{role} of {of} in {folder}", time.monotonic() + patience_s)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
    return lock


def _take(file: IO[str], place: str, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise _taken(file, place) from None
        time.sleep(POLL_S)


def _taken(file: IO[str], place: str) -> UserError:
    file.seek(0)
    holder = file.read() or "another process"
    return UserError(f"{holder} is the {place}: wait for its end or stop it, and run again.")
