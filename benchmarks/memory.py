"""The largest resident memory of every process of a run, sampled while it runs.

A process belongs to the run when its environment holds the run's marker, or when its parent belongs to it.
Either alone would miss some: Ray's daemons may lose their parent, and workers write their title over
their environment. Whoever once belonged goes on belonging.
"""

import contextlib
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil

MARKER = "NCSN_BENCHMARK"
Identity = tuple[int, float]


@dataclass(frozen=True)
class Peak:
    """The most one process held at any time."""

    bytes: int
    command: str


class Watch:
    """Samples the processes of a run in a thread, while the `with` block runs."""

    def __init__(self, marker: str, every: float = 0.5) -> None:
        self._marker, self._every = marker, every
        self._mine: set[Identity] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peaks: dict[Identity, Peak] = {}
        self.together = 0

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def largest(self) -> Peak:
        """The process that held most."""
        return max(self.peaks.values(), key=lambda peak: peak.bytes, default=Peak(0, "none seen"))

    def _watch(self) -> None:
        while not self._stop.wait(self._every):
            self._sample()

    def _sample(self) -> None:
        """Parents come before children in order of creation, so one pass finds all descendants."""
        born = [(created(process), process) for process in psutil.process_iter()]
        known = sorted((item for item in born if item[0]), key=lambda item: item[0])
        held = [self._measure(at, process) for at, process in known if self._belongs(at, process)]
        self.together = max(self.together, sum(held))

    def _belongs(self, at: float, process: psutil.Process) -> bool:
        identity = (process.pid, at)
        if identity not in self._mine and (self._marked(process) or self._child(process)):
            self._mine.add(identity)
        return identity in self._mine

    def _marked(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error, OSError):
            return bool(process.environ().get(MARKER) == self._marker)
        return False

    def _child(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            parent = process.parent()
            return parent is not None and (parent.pid, created(parent)) in self._mine
        return False

    def _measure(self, at: float, process: psutil.Process) -> int:
        """Bytes now; the peak is kept with the command of that moment."""
        try:
            now, command = int(process.memory_info().rss), " ".join(process.cmdline())
        except psutil.Error:
            return 0
        peak = max(now, high_water(process.pid))
        if command and peak >= self.peaks.get((process.pid, at), Peak(0, "")).bytes:
            self.peaks[process.pid, at] = Peak(peak, command)
        return now


def created(process: psutil.Process) -> float:
    """When it began; 0 when it is gone."""
    with contextlib.suppress(psutil.Error):
        return float(process.create_time())
    return 0.0


def high_water(pid: int) -> int:
    """The kernel's own peak of a process (Linux), which falls between no two samples; 0 elsewhere."""
    with contextlib.suppress(OSError):
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        return int(found[1]) * 1024 if found else 0
    return 0
