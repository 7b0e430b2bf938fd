"""Records are delivered by one process a repository, which a stage starts, and which stays with its pipeline.

So MLflow is imported once a pipeline instead of once a stage, and no stage waits for it.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.tracking.journal import FOLDER, Journal, held, waiting
from pipeline.tracking.loading import environment, uncollected

if TYPE_CHECKING:
    from pipeline.tracking.shipper import Shipper

LOCK = FOLDER / "shipper.lock"
LOG = FOLDER / "shipper.log"
PACKAGE = Path(__file__).parents[2]
MOST = 3
"""So many times a process of ours is started anew, should it fail."""

POLL_S = 0.05

_started: dict[Path, list["subprocess.Popen[bytes]"]] = {}


def ensure(root: Path) -> bool:
    """Have a process deliver the records of a repository; False where it failed again and again."""
    ours = _started.setdefault(root, [])
    if ours and ours[-1].poll() is None:
        return True
    with held(root / LOCK) as lock:
        if lock is None:
            return True
    if len(ours) == MOST:
        return False
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(PACKAGE))))
    with (root / LOG).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.tracking", "follow"],
            cwd=root,
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
    ours.append(process)
    return True


def follow(root: Path, stop: threading.Event | None = None) -> None:
    """Deliver as long as there is somebody to deliver for; at once over where another does."""
    while True:
        with _alone(root, 1.0) as shipper:
            if shipper is None:
                return
            shipper.follow(stop or threading.Event())
        # A stage that saw the lock held just before it was let go counts on this.
        if all(journal.delivered().problem for journal in waiting(root)):
            return


def ship(root: Path, patience_s: float = 60.0) -> list[Journal]:
    """Deliver all that can be delivered now, by this process or the one that does; returns what is left."""
    with _alone(root, patience_s) as shipper:
        while shipper and shipper.once():
            pass
    return waiting(root)


@contextlib.contextmanager
def _alone(root: Path, patience_s: float) -> Iterator["Shipper | None"]:
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
        with environment():
            with uncollected():
                from pipeline.tracking.shipper import Shipper
            yield Shipper(root)
