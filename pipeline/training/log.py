"""Log of a training: its loss curve, equal for every run of a task, and lines of JSON for observers."""

import contextlib
import csv
import io
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

from pipeline.files import write_text
from pipeline.training.task import Task

logger = logging.getLogger(__name__)

FILE = "progress.jsonl"
POLL_S = 0.2


class CurvePoint(NamedTuple):
    """A row of the loss curve: `loss` is the mean over the examples of all steps since the row before."""

    step: int
    images: int
    loss: float


def curve(losses: Sequence[float], task: Task) -> list[CurvePoint]:
    """A row each `log_every` steps and one at the end, whatever it was while these losses were computed.

    Args:
        losses: of each step, from the first.
    """
    every = task.log_every
    parts = (losses[start : start + every] for start in range(0, len(losses), every))
    steps = [*range(every, len(losses), every), len(losses)]
    return [CurvePoint(step, step * task.batch_size, sum(p) / len(p)) for step, p in zip(steps, parts, strict=False)]


def last_row(losses: Sequence[float], task: Task) -> CurvePoint:
    """The last of `curve`."""
    window = losses[(len(losses) - 1) // task.log_every * task.log_every :]
    return CurvePoint(len(losses), len(losses) * task.batch_size, sum(window) / len(window))


def write_curve(path: Path, rows: Iterable[CurvePoint]) -> None:
    """Write rows as CSV with a header; floats keep all their digits."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(CurvePoint._fields)
    table.writerows((row.step, row.images, repr(row.loss)) for row in rows)
    write_text(path, text.getvalue())


@dataclass(frozen=True)
class Progress:
    """A row of the loss curve, with the seconds since the row before and the speed over all workers."""

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


def logging_progress(name: str, every_s: float = 5.0) -> OnEvent:
    """An `on_event` that logs a line about the run `name` each `every_s` seconds, and the last."""
    last = -math.inf

    def log(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= every_s or progress.step == progress.steps:
            last = time.monotonic()
            logger.info("%s: %s", name, progress)

    return log


def append(run_folder: Path, progress: Progress) -> None:
    """Add a line to the run's log, after a line's end. A resumed run repeats the lines of repeated steps."""
    with (run_folder / FILE).open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":  # torn by a kill or a full disk
                file.write(b"\n")
        file.write(json.dumps(asdict(progress)).encode() + b"\n")


class Follower:
    """Hands on each step of a run's log once, from the run's beginning to a last step."""

    def __init__(self, run_folder: Path, on_event: OnEvent, steps: int) -> None:
        """
        Args:
            run_folder: whose log to read.
            on_event: called with each line, its `steps` replaced by these.
            steps: the last step to hand on; a longer run of the same task may have gone further.
        """
        self.path, self.on_event, self.steps = run_folder / FILE, on_event, steps
        self.read, self.step = 0, 0

    def drain(self) -> None:
        """Hand on what has been added; an unfinished line waits for its end."""
        for progress in self.added():
            if progress.step > self.step:
                self.step = progress.step
                self._hand_on(progress)

    def added(self) -> Iterator[Progress]:
        """The whole lines added since the last call, repeated steps included."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.read)
            whole, end, _ = file.read().rpartition(b"\n")
        self.read += len(whole) + len(end)
        for line in whole.splitlines():
            # A worker killed while writing leaves a part of a line.
            with contextlib.suppress(ValueError, TypeError):
                progress = replace(Progress(**json.loads(line)), steps=self.steps)
                if progress.step <= self.steps:
                    yield progress

    def _hand_on(self, progress: Progress) -> None:
        try:
            self.on_event(progress)
        except Exception:  # an observer must not be able to end a training
            logger.exception("an observer of the training failed at step %d", progress.step)


@contextlib.contextmanager
def following(run_folder: Path, on_event: OnEvent, steps: int) -> Iterator[None]:
    """Hand on a run's log up to a last step while the block runs, in a thread; all of it by its end."""
    follower, stop = Follower(run_folder, on_event, steps), threading.Event()

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


def speed(run_folder: Path, steps: int) -> dict[str, float]:
    """What a run took to its step `steps`, repeated steps included.

    Returns:
        `seconds`, `images_per_second` on average, and `workers`, the number at the end.
    """
    lines = list(Follower(run_folder, lambda _: None, steps).added())
    seconds = sum(line.seconds for line in lines)
    images = sum(line.seconds * line.images_per_second for line in lines)
    workers = lines[-1].workers if lines else 0
    return {"seconds": seconds, "images_per_second": images / seconds if seconds else 0.0, "workers": workers}
