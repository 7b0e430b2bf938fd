"""What a stage did, kept in MLflow: a run per pipeline run, below it one per stage, below that one per trial.

    with tracking.stage("train", variant, params) as run:
        run.log_metrics({"loss": loss}, step)

See `runs.Run` for all that a run can be told. A stage writes it to a record on this disk and works on;
another process delivers it (`shipping`). Only `store` imports mlflow. Tracking changes no result.
"""

import contextlib
import os
import signal
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Protocol
from urllib.parse import urlsplit

from pipeline.tracking import provenance
from pipeline.tracking.heading import ATTACH, PARENT, heading
from pipeline.tracking.loading import environment, uncollected
from pipeline.tracking.notes import NotedRun, replay
from pipeline.tracking.runs import NullRun, Record, Run
from pipeline.tracking.stage_run import stage_run

__all__ = ["ATTACH", "PARENT", "Record", "Relay", "Run", "records", "relay", "stage"]

NOTES = "PIPELINE_NOTES"
"""Environment, inside a job that cannot reach the store: the file that takes the notes for `replay`."""


class Settings(Protocol):
    """The parameters as this package needs them: `pipeline.params.Params` is one."""

    def model_dump(self) -> dict[str, Any]:
        """All sections as plain values."""


@contextlib.contextmanager
def stage(
    name: str,
    variant: str | None,
    params: Settings,
    *,
    last: bool = False,
    shows: Iterable[Mapping[str, str]] = (),
) -> Iterator[Run]:
    """The run of one stage: FINISHED at the end of the block, FAILED or KILLED by an exception.

    Args:
        name: the stage's name in dvc.yaml, which says what sections of the parameters it reads.
        last: nothing of the pipeline follows, so that the parent run ends with this one.
        shows: tags of the runs whose results this stage shows without making any. Where nothing ran before
            it, it joins the pipeline run of the newest of them instead of beginning one.

    Raises:
        UserError: tracking is on, this is the pipeline's first stage, the store cannot be used, and
            `tracking.unreachable` is `refuse`.
    """
    values, root = params.model_dump(), provenance.root()
    settings = values["tracking"]
    with _termination_as_exit():
        if not settings["enabled"]:
            yield NullRun()
        elif NOTES in os.environ:
            with NotedRun(Path(os.environ[NOTES])) as notes:
                notes.set_tags(provenance.made_with())
                yield notes
        else:
            said = heading(root, name, variant, values, last=last, shows=shows)
            with stage_run(root, said, refuse=settings["unreachable"] == "refuse") as run:
                yield run


def records(run_ids: Iterable[str]) -> dict[str, Record]:
    """What the store has of these runs, by id; one that it lacks, or that is deleted, is left out.

    Raises:
        UserError: there is no store, or it cannot be read.
    """
    with environment():
        with uncollected():
            from pipeline.tracking.store import lookup

        return lookup.records(provenance.root(), run_ids)


class Relay(NamedTuple):
    """What a job needs for its stage to be tracked."""

    environment: dict[str, str]
    """Variables to set in the job."""
    returns: list[str]
    """Files, relative to the working folder, to bring back from it where they exist."""


@contextlib.contextmanager
def relay(name: str, variant: str | None, params: Settings) -> Iterator[Relay]:
    """The run of a stage whose work is done by a job elsewhere; the block submits it and waits.

    A tracking server is told by the job itself, live. Any other store is told here when the block ends well,
    from the notes that the job took.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    with stage(name, variant, params) as run:
        if isinstance(run, NullRun) and not isinstance(run, NotedRun):
            yield Relay({}, [])
        elif _reachable_from_elsewhere(uri) and run.id:
            yield Relay({"MLFLOW_TRACKING_URI": uri, ATTACH: run.id}, [])
        else:
            notes = f".runs/notes-{uuid.uuid4().hex}.jsonl"
            yield Relay({NOTES: notes}, [notes])
            replay(Path(notes), run)
            Path(notes).unlink(missing_ok=True)


def _reachable_from_elsewhere(uri: str) -> bool:
    parts = urlsplit(uri)
    loopback = parts.hostname in ("localhost", "::1") or (parts.hostname or "").startswith("127.")
    return parts.scheme in ("http", "https") and not loopback


@contextlib.contextmanager
def _termination_as_exit() -> Iterator[None]:
    """Turn SIGTERM into SystemExit(143), so that the run is ended; a handler that someone set is kept."""
    free = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not free or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is _exit:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)
