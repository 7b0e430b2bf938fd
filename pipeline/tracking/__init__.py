"""Tracking in MLflow: a run per pipeline run, below it one per stage, below that one per trial.

    with tracking.stage("train", network, params) as run:
        run.log_metrics({"loss": loss}, step)

See `Run` for all that can be logged. A stage writes it to a record on this disk and works on; another process
delivers it (`shipping`). Only `mlflow_store` imports mlflow. Tracking changes no result.
"""

import contextlib
import os
import signal
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, NoReturn, Protocol
from urllib.parse import urlsplit

from pipeline import dvcfile
from pipeline.redaction import has_secret
from pipeline.tracking import provenance, shipping
from pipeline.tracking.provenance import ATTACH, PARENT
from pipeline.tracking.record import VIEW, Arguments, Record
from pipeline.tracking.recorder import Notes, Nothing, Run, repeat
from pipeline.tracking.stage_run import recording

__all__ = ["ATTACH", "PARENT", "VIEW", "Record", "Relay", "Run", "pages", "records", "relay", "stage"]

NOTES = "PIPELINE_NOTES"
"""Environment, inside a job that cannot reach the store: the file that takes the notes for `relay`."""


PASSWORDS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
"""Environment, MLflow's own: secrets that no job is sent."""


class Settings(Protocol):
    """The parameters as this package needs them: `pipeline.params.Params` is one."""

    def model_dump(self) -> Arguments:
        """All sections as plain values."""


@contextlib.contextmanager
def stage(
    name: str,
    key: str | None,
    params: Settings,
    *,
    last: bool = False,
    shows: Iterable[Mapping[str, str]] = (),
) -> Iterator[Run]:
    """The run of one stage: FINISHED at the end of the block, FAILED or KILLED by an exception.

    Args:
        name: the stage's name in dvc.yaml, which says what sections of the parameters it reads.
        key: the network or row that it works on; None for a stage that runs once.
        last: nothing of the pipeline follows, so that the parent run ends with this one.
        shows: tags of the runs whose results this stage shows without making any. Where nothing ran before
            it, it joins the pipeline run of the newest of them instead of beginning one.

    Raises:
        UserError: tracking is on, this is the pipeline's first stage, the store or the record's disk cannot
            be used, and `tracking.unreachable` is `refuse`.
    """
    values, root = params.model_dump(), provenance.root()
    settings = values["tracking"]
    with _termination_as_exit():
        if not settings["enabled"]:
            yield Run(Nothing())
        elif NOTES in os.environ:
            run = Run(Notes(Path(os.environ[NOTES])))
            run.set_tags(provenance.made_with())
            yield run
        else:
            heading = provenance.heading(root, name, key, values, last=last, shows=shows)
            with recording(root, heading, refuse=settings["unreachable"] == "refuse") as run:
                yield run


def records(run_ids: Iterable[str]) -> dict[str, Record]:
    """What the store has of these runs, by id; one that it lacks, or that is deleted, is left out.

    Raises:
        UserError: there is no store, or it cannot be read.
    """
    with shipping.quiet():
        with shipping.uncollected():
            from pipeline.tracking import mlflow_store

        return mlflow_store.stored(provenance.root(), run_ids)


def pages(experiment: str, preset: str, rows: Iterable[str]) -> tuple[str, list[str]]:
    """An experiment's id, empty without one, and the newest finished evaluation of each row that has one.

    Raises:
        UserError: the store cannot be read.
    """
    with shipping.quiet():
        with shipping.uncollected():
            from pipeline.tracking import mlflow_store

        return mlflow_store.pages(provenance.root(), experiment, preset, rows)


class Relay(NamedTuple):
    """What a job needs for its stage to be tracked."""

    environment: dict[str, str]
    """Variables to set in the job."""
    returns: list[str]
    """Files, relative to the working folder, to bring back from it where they exist."""


@contextlib.contextmanager
def relay(name: str, key: str | None, params: Settings) -> Iterator[Relay]:
    """The run of a stage whose work is done by a job elsewhere; the block submits it and waits.

    A job sends its calls to a tracking server itself, live. For any other store, and for a server that asks for
    a password, which stays here, it takes notes; they are recorded here when the block ends well.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    with stage(name, key, params) as run:
        if isinstance(run.sink, Nothing) and not isinstance(run.sink, Notes):
            yield Relay({}, [])
        elif _reachable_from_elsewhere(uri) and run.id:
            yield Relay({"MLFLOW_TRACKING_URI": uri, ATTACH: run.id}, [])
        else:
            notes = f".runs/notes-{uuid.uuid4().hex}.jsonl"
            yield Relay({NOTES: notes}, [notes])
            entry = dvcfile.entry(Path(), name, key)
            repeat(Path(notes), run, [*entry.inputs(), *entry.outs])
            Path(notes).unlink(missing_ok=True)


def _reachable_from_elsewhere(uri: str) -> bool:
    parts = urlsplit(uri)
    loopback = parts.hostname in ("localhost", "::1") or (parts.hostname or "").startswith("127.")
    secret = has_secret(uri) or any(map(os.environ.get, PASSWORDS))
    return parts.scheme in ("http", "https") and not loopback and not secret


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
