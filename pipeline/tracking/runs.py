"""What a stage can tell its run, and a run that forgets it all."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self


class Run(Protocol):
    """A stage's or trial's record. It changes no result, and no failure of it reaches the caller."""

    @property
    def id(self) -> str | None:
        """MLflow's run id, waited for; None where nothing is recorded, or the store has not answered."""

    @property
    def parent_id(self) -> str | None:
        """The run id of the pipeline run that this one belongs to; None as for `id`."""

    def log_metrics(self, values: Mapping[str, Any], step: int = 0) -> None:
        """Record the numbers of a possibly nested mapping under dotted keys; other leaves are left out."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record the leaves of a possibly nested mapping as parameters under dotted keys."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, by which runs are found."""

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Store a file, or a folder with all in it, under `folder` of the run's artifacts."""

    def log_picture(self, name: str, png: str) -> None:
        """Store a small picture, a PNG in base64, as NAME.png."""

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
    def log_picture(self, name: str, png: str) -> None: ...
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
