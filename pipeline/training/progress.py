"""What a run tells whoever watches: lines of JSON, appended by its first worker, followed from anywhere."""

import contextlib
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

FILE = "progress.jsonl"
POLL_S = 0.2


@dataclass(frozen=True)
class Progress:
    """A row of the history, with the seconds since the row before and the speed over all workers."""

    step: int
    steps: int
    images: int
    loss: float
    seconds: float
    images_per_second: float
    workers: int

    @property
    def eta(self) -> float:
        """Seconds to the last step at this speed."""
        return (self.steps - self.step) * (self.images / self.step) / self.images_per_second

    def __str__(self) -> str:
        left = time.strftime("%H:%M:%S", time.gmtime(self.eta))
        speed = f"{self.images_per_second:.0f} images/s"
        return f"step {self.step}/{self.steps}, loss {self.loss:.3f}, {speed}, {left} left"

    def metrics(self) -> dict[str, float]:
        """What MLflow records at `step`."""
        return {"loss": self.loss, "images": self.images, "images_per_second": self.images_per_second}


OnEvent = Callable[[Progress], None]


def telling(name: str, every_s: float = 5.0) -> OnEvent:
    """An `on_event` that logs a line about the run `name`, at most every so many seconds, and the last."""
    last = -math.inf

    def tell(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= every_s or progress.step == progress.steps:
            last = time.monotonic()
            logger.info("%s: %s", name, progress)

    return tell


def append(run_folder: Path, progress: Progress) -> None:
    """Add a line to the run's log, after a line's end; a run that resumes repeats the steps it does again."""
    with (run_folder / FILE).open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":  # torn by a kill or a full disk
                file.write(b"\n")
        file.write(json.dumps(asdict(progress)).encode() + b"\n")


class Follower:
    """Hands on each step of a run's log once, from the run's beginning."""

    def __init__(self, run_folder: Path, on_event: OnEvent) -> None:
        self.path, self.on_event = run_folder / FILE, on_event
        self.read, self.step = 0, 0

    def drain(self) -> None:
        """Hand on what has been added; a line that is not yet whole waits for its end."""
        for progress in self.added():
            if progress.step > self.step:
                self.step = progress.step
                self._tell(progress)

    def added(self) -> Iterator[Progress]:
        """The whole lines added since the last call."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.read)
            whole, end, _ = file.read().rpartition(b"\n")
        self.read += len(whole) + len(end)
        for line in whole.splitlines():
            # A worker killed in mid-write leaves a part of a line.
            with contextlib.suppress(ValueError, TypeError):
                yield Progress(**json.loads(line))

    def _tell(self, progress: Progress) -> None:
        try:
            self.on_event(progress)
        except Exception:  # whoever watches must not be able to end a training
            logger.exception("a watcher of the training failed at step %d", progress.step)


@contextlib.contextmanager
def following(run_folder: Path, on_event: OnEvent) -> Iterator[None]:
    """Hand on a run's log while the block runs, in a thread; all of it has been handed on afterwards."""
    follower, stop = Follower(run_folder, on_event), threading.Event()

    def follow() -> None:
        while not stop.wait(POLL_S):
            follower.drain()

    thread = threading.Thread(target=follow, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        follower.drain()


def speed(run_folder: Path) -> dict[str, float]:
    """What a whole run took, repeated steps included: `seconds`, and `images_per_second` on average.

    `workers` is how many did the last of it.
    """
    lines = list(Follower(run_folder, lambda _: None).added())
    seconds = sum(line.seconds for line in lines)
    images = sum(line.seconds * line.images_per_second for line in lines)
    workers = lines[-1].workers if lines else 0
    return {"seconds": seconds, "images_per_second": images / seconds if seconds else 0.0, "workers": workers}
