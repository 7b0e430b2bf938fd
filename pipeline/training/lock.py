"""Lock of a run folder: two writers in it would break each other's checkpoints."""

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
    with (run_folder / f".{role}.lock").open("a+") as file:
        _take(file, role, run_folder, time.monotonic() + patience_s)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        yield


def _take(file: IO[str], role: str, run_folder: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise _taken(file, role, run_folder) from None
        time.sleep(POLL_S)


def _taken(file: IO[str], role: str, run_folder: Path) -> UserError:
    file.seek(0)
    holder = file.read() or "another process"
    return UserError(
        f"{holder} is the {role} of the training in {run_folder}: wait for its end or stop it, and run again."
    )
