"""What a stage can tell its run, and two runs that need no MLflow: one that forgets, one that takes notes."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self


class Run(Protocol):
    """A stage's or trial's record. It changes no result, and no failure of it reaches the caller."""

    @property
    def id(self) -> str | None:
        """MLflow's run id; None where nothing is recorded or where the record is written down for later."""

    @property
    def parent_id(self) -> str | None:
        """The run id of the pipeline run that this one belongs to."""

    def log_metrics(self, values: Mapping[str, Any], step: int = 0) -> None:
        """Record the numbers of a possibly nested mapping under dotted keys; other leaves are left out."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record the leaves of a possibly nested mapping as parameters under dotted keys."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, by which runs are found."""

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Store a file, or a folder with all in it, under `folder` of the run's artifacts."""

    def log_dataset(self, manifest: Mapping[str, Any]) -> None:
        """Name the data set that the run reads, by the manifest that `data.prepare` returns."""

    def log_network(self, checkpoint: Path, name: str, shape: tuple[int, int, int]) -> None:
        """Store a checkpoint folder as a model with signature and register it as a new version of `name`.

        Args:
            checkpoint: what `training.state.load_network` reads.
            shape: (C, H, W) of the images.
        """

    def report_network(self, checkpoint: Path, name: str, note: str) -> None:
        """Put a note behind the description of the version of `name` that holds this very checkpoint.

        The alias `reported` moves to it; a checkpoint that was never registered is passed over.
        """

    def summarise(self, values: Mapping[str, float], path: Path) -> None:
        """Give the pipeline run, whose row the UI compares, its headline numbers and a file or folder."""

    def child(self, name: str, params: Mapping[str, Any] | None = None) -> "Run":
        """Begin a run below this one, such as a trial; a context manager, or to be ended by `end`."""

    def end(self, status: str = "FINISHED") -> None:
        """End the run as FINISHED, FAILED or KILLED."""

    def find(self, tags: Mapping[str, str]) -> str | None:
        """The id of the newest run of the experiment that has all these tags and ended FINISHED."""

    def tags_of(self, run_id: str) -> dict[str, str]:
        """All tags of a run of the store; none where it cannot be read."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Record(NamedTuple):
    """What the store has of a run."""

    status: str
    """RUNNING, FINISHED, FAILED or KILLED."""
    tags: dict[str, str]


def status_of(error: BaseException | None) -> str:
    """How a run ends whose block ended with an exception, or without (None)."""
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return "FINISHED"
    return "KILLED" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "FAILED"


class NullRun:
    """The run of a stage that is not tracked."""

    id: str | None = None
    parent_id: str | None = None

    def log_metrics(self, values: Mapping[str, Any], step: int = 0) -> None: ...
    def log_params(self, params: Mapping[str, Any]) -> None: ...
    def set_tags(self, tags: Mapping[str, str]) -> None: ...
    def log_artifact(self, path: Path, folder: str | None = None) -> None: ...
    def log_dataset(self, manifest: Mapping[str, Any]) -> None: ...
    def log_network(self, checkpoint: Path, name: str, shape: tuple[int, int, int]) -> None: ...
    def report_network(self, checkpoint: Path, name: str, note: str) -> None: ...
    def summarise(self, values: Mapping[str, float], path: Path) -> None: ...
    def end(self, status: str = "FINISHED") -> None: ...

    def child(self, name: str, params: Mapping[str, Any] | None = None) -> Run:
        return self

    def find(self, tags: Mapping[str, str]) -> str | None:
        return None

    def tags_of(self, run_id: str) -> dict[str, str]:
        return {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(status_of(error))


class NotedRun(NullRun):
    """Writes down what it is told, a JSON line a call, for `replay` where the tracking store is."""

    def __init__(self, notes: Path, address: tuple[int, ...] = ()) -> None:
        """
        Args:
            notes: the file to append to.
            address: which child of which child this is, counted from the stage's run.
        """
        self._notes, self._address, self._children = notes, address, 0

    def _note(self, call: str, **arguments: Any) -> None:
        self._notes.parent.mkdir(parents=True, exist_ok=True)
        with self._notes.open("a", encoding="utf-8") as file:
            file.write(json.dumps([self._address, call, arguments], default=_plain) + "\n")

    def log_metrics(self, values: Mapping[str, Any], step: int = 0) -> None:
        self._note("log_metrics", values=values, step=step)

    def log_params(self, params: Mapping[str, Any]) -> None:
        self._note("log_params", params=params)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self._note("set_tags", tags=tags)

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        self._note("log_artifact", path=path, folder=folder)

    def log_dataset(self, manifest: Mapping[str, Any]) -> None:
        self._note("log_dataset", manifest=manifest)

    def log_network(self, checkpoint: Path, name: str, shape: tuple[int, int, int]) -> None:
        self._note("log_network", checkpoint=checkpoint, name=name, shape=shape)

    def report_network(self, checkpoint: Path, name: str, note: str) -> None:
        self._note("report_network", checkpoint=checkpoint, name=name, note=note)

    def summarise(self, values: Mapping[str, float], path: Path) -> None:
        self._note("summarise", values=values, path=path)

    def child(self, name: str, params: Mapping[str, Any] | None = None) -> Run:
        self._note("child", name=name, params=params)
        self._children += 1
        return NotedRun(self._notes, (*self._address, self._children - 1))

    def end(self, status: str = "FINISHED") -> None:
        if self._address:  # the stage's own run is ended by the process that replays
            self._note("end", status=status)


def replay(notes: Path, run: Run) -> None:
    """Tell `run` and its children all that a NotedRun wrote down, in order; a missing file is empty."""
    runs: dict[tuple[int, ...], Run] = {(): run}
    children: dict[tuple[int, ...], int] = {}
    for line in notes.read_text(encoding="utf-8").splitlines() if notes.exists() else ():
        address, call, arguments = json.loads(line)
        here = tuple(address)
        paths = {k: Path(arguments[k]) for k in ("path", "checkpoint") if k in arguments}
        made = getattr(runs[here], call)(**{**arguments, **paths})
        if call == "child":
            runs[(*here, children.setdefault(here, 0))] = made
            children[here] += 1


def _plain(value: Any) -> Any:
    """numpy's numbers and paths as JSON's."""
    return value.item() if hasattr(value, "item") else str(value)
