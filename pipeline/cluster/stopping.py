"""SIGTERM as a request: the workers save and end, and this process ends with the code of a terminated one."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from pipeline.training.fit import STOP

EXIT_CODE = 128 + signal.SIGTERM


@contextlib.contextmanager
def stoppable(run_folder: Path) -> Iterator[None]:
    """Let SIGTERM ask a run to save and stop, while the block runs; a second one is not caught.

    Asked or not, the block ends by itself; whoever holds it finds the run unfinished. The request is
    forgotten with the block.
    """
    (run_folder / STOP).unlink(missing_ok=True)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)

    def ask(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, before)
        (run_folder / STOP).touch()

    signal.signal(signal.SIGTERM, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def asked(run_folder: Path) -> bool:
    """Whether the run was asked to stop."""
    return (run_folder / STOP).exists()
