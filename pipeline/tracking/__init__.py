"""What a stage did, kept in MLflow: a run per pipeline run, below it one per stage, below that one per trial.

    with tracking.stage("train", variant, params) as run:
        run.log_metrics({"loss": loss}, step)

Only `client` imports mlflow, and only where tracking is on; see `runs.Run` for all that a run can be told.
Tracking changes no result: a store that cannot be opened is a UserError before the work begins, and later
failures are told once and counted.
"""

import contextlib
import gc
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Protocol
from urllib.parse import urlsplit

from pipeline.tracking import provenance
from pipeline.tracking.runs import NotedRun, NullRun, Record, Run, replay

__all__ = ["Record", "Relay", "Run", "records", "relay", "stage"]

PARENT = "PIPELINE_PARENT_RUN"
"""Environment: the run id that stages take as their parent, in place of the one of their `dvc` process."""
ATTACH = "PIPELINE_RUN"
"""Environment, inside a job: the stage's run id, begun and ended by the process that submitted the job."""
NOTES = "PIPELINE_NOTES"
"""Environment, inside a job that cannot reach the store: the file that takes the notes for `replay`."""

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "60", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
"""While the stage works: MLflow on its own holds it up for 246 s when a server dies."""


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
        UserError: tracking is on and the store cannot be opened.
    """
    values = params.model_dump()
    with _environment(QUIET | PATIENCE), _termination_as_exit():
        if not values["tracking"]["enabled"]:
            yield NullRun()
        elif NOTES in os.environ:
            with NotedRun(Path(os.environ[NOTES])) as notes:
                notes.set_tags(provenance.made_with())
                yield notes
        else:
            with _uncollected():
                from pipeline.tracking import client, pipeline_run

                store = client.Store(provenance.root(), values["tracking"]["experiment"])
            with pipeline_run.stage_run(store, name, variant, values, last=last, shows=shows) as run:
                yield run


def records(run_ids: Iterable[str]) -> dict[str, Record]:
    """What the store has of these runs, by id; one that it lacks, or that is deleted, is left out.

    Raises:
        UserError: there is no store, or it cannot be read.
    """
    with _environment(QUIET | PATIENCE):
        with _uncollected():
            from pipeline.tracking import client

        return client.records(provenance.root(), run_ids)


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
        if run.id is None:
            yield Relay({}, [])
        elif _reachable_from_elsewhere(uri):
            yield Relay({"MLFLOW_TRACKING_URI": uri, ATTACH: run.id}, [])
        else:
            notes = f".runs/notes-{run.id}.jsonl"
            yield Relay({NOTES: notes}, [notes])
            replay(Path(notes), run)
            Path(notes).unlink(missing_ok=True)


def _reachable_from_elsewhere(uri: str) -> bool:
    parts = urlsplit(uri)
    loopback = parts.hostname in ("localhost", "::1") or (parts.hostname or "").startswith("127.")
    return parts.scheme in ("http", "https") and not loopback


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set the variables that are not set, for the block."""
    ours = [name for name in variables if name not in os.environ]
    os.environ.update({name: variables[name] for name in ours})
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Import without the garbage collector, which finds nothing there, again and again, in half the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


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
