"""Recorder: the stage's side of tracking, where each call on a run becomes a line, and the stage works on.

A new kind of thing to log is one method of `Run` here and one function of the same name in `mlflow_store`.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

from pipeline import pictures
from pipeline.tracking.provenance import manifest_of, numbers
from pipeline.tracking.record import (
    BEGIN,
    DAMAGED,
    END,
    Address,
    Arguments,
    Delivered,
    Line,
    RecordFile,
    encode,
    now,
    private,
)

Answer = TypeVar("Answer")
logger = logging.getLogger(__name__)
NOWHERE = -1
"""In place of a line's start, where none was written."""


class Sink(Protocol):
    """Where the calls on a run go."""

    answers: bool
    """Whether questions are answered."""

    def write(self, address: Address, call: str, arguments: Arguments, once: str | None = None) -> int:
        """Add a call; returns the start of its line, or NOWHERE."""

    def wait(self, answer: Callable[[Delivered], Answer | None]) -> Answer | None:
        """What `answer` finds in the state of delivery, once it is there; None where nobody will answer."""


class Run:
    """A stage's or trial's run. It changes no result, and no failure of tracking reaches the caller.

    Only `id`, `parent_id`, `find` and `tags_of` wait for the store; they are None or empty where nothing is
    recorded, and where the store has not answered.
    """

    def __init__(self, sink: Sink, address: Address = ()) -> None:
        self.sink, self._address, self._children = sink, address, 0

    def log_metrics(self, values: Mapping[str, object], step: int = 0) -> None:
        """Record the numbers of a possibly nested mapping under dotted keys; other leaves are left out."""
        self._record("log_metrics", values=numbers(values), step=step)

    def log_params(self, params: Mapping[str, object]) -> None:
        """Record the leaves of a possibly nested mapping as parameters under dotted keys."""
        self._record("log_params", params=params)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, by which runs are found."""
        self._record("set_tags", tags=tags)

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Store a file, or a folder with all in it, under `folder` of the run's artifacts."""
        self._record("log_artifact", path=path, folder=folder)

    def log_samples(self, folder: Path) -> None:
        """Show the first samples that `generate` wrote to a folder as samples.png; the description says so."""
        about = f"`samples.png`: the first samples of `{folder}/denoised.npy`, with the last denoising step, uncurated."
        self._record("log_picture", once="samples", name="samples", png=pictures.first_samples(folder), about=about)

    def log_picture(self, name: str, png: str) -> None:
        """Store a small picture, a PNG in base64, as NAME.png."""
        self._record("log_picture", once=name, name=name, png=png)

    def log_dataset(self, manifest: Mapping[str, object]) -> None:
        """Name the data set that the run reads, by the manifest that `data.prepare` returns."""
        self._record("log_dataset", manifest=manifest)

    def log_network(
        self,
        checkpoint: Path,
        name: str,
        shape: tuple[int, int, int],
        manifest: Path | None = None,
        data: Path | None = None,
    ) -> None:
        """Store a checkpoint folder as a model with signature and register it as a new version of `name`.

        Args:
            checkpoint: what `training.checkpoints.load_network` reads.
            shape: (C, H, W) of the images.
            manifest: that of samples drawn with it; the model draws such samples too.
            data: the prepared data set, where their sampler starts at its law.
        """
        what = {"checkpoint": checkpoint, "name": name, "shape": shape, "identity": manifest_of(checkpoint)}
        drawn = {key: path for key, path in {"manifest": manifest, "data": data}.items() if path}
        self._record("log_network", once=f"{name} {what['identity']}", **what, **drawn)

    def log_row(self, checkpoint: Path, name: str, values: Mapping[str, object], drawn: Mapping[str, str]) -> None:
        """Record a row's headline numbers here, for its model and for the run that drew its samples.

        Args:
            checkpoint: the row's, registered as a version of `name`; one that was not is passed over.
            drawn: the tags of the run that drew the samples.
        """
        self._record("log_row", identity=manifest_of(checkpoint), name=name, values=numbers(values), drawn=drawn)

    def report_network(self, checkpoint: Path, name: str, note: str) -> None:
        """Put a note behind the description of the version of `name` that holds this very checkpoint.

        The alias `reported` moves to it; a checkpoint that was never registered is passed over.
        """
        self._record("report_network", identity=manifest_of(checkpoint), name=name, note=note)

    def summarise(self, values: Mapping[str, float], path: Path) -> None:
        """Give the pipeline run, whose row the UI compares, its headline numbers and a file or folder."""
        self._record("summarise", values=numbers(values), path=path)

    def child(self, name: str, params: Mapping[str, object] | None = None) -> "Run":
        """Begin a run below this one, such as a trial; a context manager, or to be ended by `end`."""
        number, self._children = self._children, self._children + 1
        self._record("child", once=f"{number} {name}", name=name, params=params, number=number)
        return Run(self.sink, (*self._address, number))

    def end(self, status: str = "FINISHED") -> None:
        """End a child as FINISHED, FAILED or KILLED; the stage's own run ends with its block."""
        if self._address:
            self._record(END, status=status)

    @property
    def id(self) -> str | None:
        """MLflow's run id."""
        place = ".".join(map(str, self._address))
        return self.sink.wait(lambda state: state.runs.get(place))

    @property
    def parent_id(self) -> str | None:
        """The run id of the pipeline run that this one belongs to."""
        return self.sink.wait(lambda state: state.parent)

    def find(self, tags: Mapping[str, str]) -> str | None:
        """The id of the newest run of the experiment that has all these tags and ended FINISHED."""
        found = self._ask("find", {"tags": tags})
        return str(found) if found else None

    def tags_of(self, run_id: str) -> dict[str, str]:
        """All tags of a run of the store; none where it cannot be read."""
        found = self._ask("tags_of", {"run_id": run_id})
        return found if isinstance(found, dict) else {}

    def _record(self, call: str, *, once: str | None = None, **arguments: object) -> None:
        self.sink.write(self._address, call, arguments, once)

    def _ask(self, call: str, arguments: Arguments) -> object:
        if not self.sink.answers:
            return None
        start = self.sink.write(self._address, call, arguments)
        return None if start == NOWHERE else self.sink.wait(lambda state: state.answers.get(str(start)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(status_of(error))


def status_of(error: BaseException | None) -> str:
    """How a run ends whose block ended with an exception, or without (None)."""
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return "FINISHED"
    return "KILLED" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "FAILED"


class Nothing:
    """Sink of a stage that is not tracked."""

    answers = False

    def write(self, address: Address, call: str, arguments: Arguments, once: str | None = None) -> int:
        """Forget the call."""
        return NOWHERE

    def wait(self, answer: Callable[[Delivered], Answer | None]) -> Answer | None:
        """Nobody answers."""
        return None


class Notes(Nothing):
    """Sink of a job that cannot reach the store: a file of lines, for `repeat` where the store is."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path

    def write(self, address: Address, call: str, arguments: Arguments, once: str | None = None) -> int:
        """Add a line; its paths are those of the job's working folder, from which they are brought back."""
        with open(self._path, "ab", opener=private) as file:
            file.write(encode(now(), address, call, arguments, once))
        return NOWHERE


def repeat(notes: Path, run: Run, within: Sequence[str]) -> None:
    """Make on `run` and its children all calls that `Notes` wrote down, in order; a missing file is empty.

    The file comes from elsewhere: it begins and ends no stage, and names no file but those at or below `within`.
    """
    lines = RecordFile(notes).lines()
    told = [line for line in lines if _may_be_told(line, within)]
    if len(told) < len(lines):
        logger.warning("tracking: %d notes of the job are damaged or name foreign files", len(lines) - len(told))
    for line in told:
        run.sink.write(line.address, line.call, line.arguments, line.once)


def _may_be_told(line: Line, within: Sequence[str]) -> bool:
    of_a_stage = line.call in (BEGIN, DAMAGED) or (line.call == END and not line.address)
    paths = [value for value in line.arguments.values() if isinstance(value, Path)]
    return not of_a_stage and all(_is_within(path, within) for path in paths)


def _is_within(path: Path, within: Sequence[str]) -> bool:
    return ".." not in path.parts and any(path.is_relative_to(own) for own in within)
