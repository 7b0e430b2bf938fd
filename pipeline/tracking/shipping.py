"""Process that delivers the records of a repository: started by a stage, alone, gone soon after its pipeline.

So MLflow is imported once a pipeline instead of once a stage, and no stage waits for it.
"""

import contextlib
import gc
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.tracking.record import FOLDER, RecordFile, held, private, waiting

if TYPE_CHECKING:
    from pipeline.tracking.deliver import Deliverer

LOCK = FOLDER / "shipper.lock"
LOG = FOLDER / "shipper.log"
PACKAGE = Path(__file__).parents[2]
MOST = 3
"""How often a process of ours is started again, should it fail."""
POLL_S = 0.05
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
HASTE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "3", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
"""A dead server is noticed in seconds: MLflow on its own tries for 246."""

PAUSES_S = (2.0, 4.0, 8.0)
"""How long `ship` waits before it asks a store again that did not answer, as one does that others keep busy."""
logger = logging.getLogger(__name__)
_started: dict[Path, list["subprocess.Popen[bytes]"]] = {}


def ensure(root: Path) -> bool:
    """Have a process deliver the records of a repository; False where it failed again and again."""
    ours = _started.setdefault(root, [])
    if ours and ours[-1].poll() is None:
        return True
    try:
        with held(root / LOCK) as lock:
            if lock is None:
                return True
        if len(ours) == MOST:
            return False
        ours.append(_start(root))
    except OSError:  # a full disk, which the stage reports by its own record
        return False
    return True


def _start(root: Path) -> "subprocess.Popen[bytes]":
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(PACKAGE))))
    with open(root / LOG, "wb", opener=private) as log:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline.tracking", "follow"],
            cwd=root,
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )


def follow(root: Path, stop: threading.Event | None = None) -> None:
    """Deliver as long as there is somebody to deliver for; returns at once where another process does."""
    while True:
        with _alone(root, 1.0) as deliverer:
            if deliverer is None:
                return
            deliverer.follow(stop or threading.Event())
        # A stage that saw the lock held just before it was let go counts on this.
        if all(record.delivered().problem for record in waiting(root)):
            return


def ship(root: Path, patience_s: float = 60.0) -> list[RecordFile]:
    """Deliver all that can be delivered now, by this process or the one that does; returns what is left."""
    with _alone(root, patience_s) as deliverer:
        for pause in (*PAUSES_S, None):
            while deliverer and deliverer.once():
                pass
            if pause is None or not (deliverer and deliverer.silent):
                break
            logger.warning("%s Trying again in %g s.", deliverer.silent, pause)
            time.sleep(pause)
    return waiting(root)


@contextlib.contextmanager
def _alone(root: Path, patience_s: float) -> Iterator["Deliverer | None"]:
    """Be the one who delivers, for the block; None where another still is after the patience.

    Only then is mlflow imported.
    """
    deadline = time.monotonic() + patience_s
    (root / LOCK).parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        while stack.enter_context(held(root / LOCK)) is None:
            stack.close()
            if time.monotonic() > deadline:
                yield None
                return
            time.sleep(POLL_S)
        with quiet():
            with uncollected():
                from pipeline.tracking.deliver import Deliverer
            yield Deliverer(root)


@contextlib.contextmanager
def quiet(variables: Mapping[str, str] = QUIET | HASTE) -> Iterator[None]:
    """Set the environment's variables that make MLflow quiet and quick, but for those set, for the block."""
    ours = [name for name in variables if name not in os.environ]
    os.environ.update({name: variables[name] for name in ours})
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Import without the garbage collector, which finds nothing there, again and again, in half the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
