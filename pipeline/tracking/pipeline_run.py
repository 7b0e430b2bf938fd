"""The levels of runs: a pipeline run per `dvc` process, its stages, and the ends nobody else writes.

A stage that only shows what others made, with nothing run before it, begins no pipeline run: a report written
anew stands under the pipeline run of the newest numbers it shows. An experiment of DVC's always begins one,
by its own name.
"""

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipeline.errors import UserError
from pipeline.tracking import ATTACH, PARENT, process, provenance
from pipeline.tracking.client import MlflowRun, Store
from pipeline.tracking.runs import status_of

ERROR_LENGTH = 2000
EXPERIMENT = "DVC_EXP_NAME"
"""Environment, set by `dvc exp run` in a stage: the experiment's name, given or made up."""
NO_RESULT = ("compute", "tracking")
"""Sections of the parameters that change no result."""


@contextlib.contextmanager
def stage_run(
    store: Store,
    stage: str,
    variant: str | None,
    params: dict[str, Any],
    *,
    last: bool,
    shows: Iterable[Mapping[str, str]],
) -> Iterator[MlflowRun]:
    """Begin a stage's run below the pipeline's, and end what ends with it."""
    ours = ATTACH not in os.environ
    with store.opening():
        run = _begin(store, stage, variant, params, shows) if ours else store.attach(_existing(store, ATTACH))
    run.log_params(provenance.sections(stage, variant, params))
    if not ours:
        run.set_tags(provenance.made_with())
    error: BaseException | None = None
    try:
        yield run
    except BaseException as caught:
        error = caught
        raise
    finally:
        if error is not None:
            run.set_tags({"error": f"{type(error).__name__}: {error}"[:ERROR_LENGTH]})
        run.share_params()
        if ours:
            run.end(status_of(error))
            _end_parent(store, run, status_of(error), last)
        store.tell_losses()


def _begin(
    store: Store, stage: str, variant: str | None, params: dict[str, Any], shows: Iterable[Mapping[str, str]]
) -> MlflowRun:
    sweep(store)
    parent = _parent(store, params, shows)
    tags = provenance.tags(stage, variant, params) | process.tags("stage")
    return store.create(" ".join(filter(None, (stage, variant))), tags, parent)


def _parent(store: Store, params: dict[str, Any], shows: Iterable[Mapping[str, str]]) -> str:
    """The pipeline run to stand under: named by the environment, found by its process, joined, or new."""
    if PARENT in os.environ:
        return _existing(store, PARENT)
    owner = process.pipeline_owner()
    name = process.key(owner)
    for run in store.search({"pipeline.level": "pipeline"}, owner=process.prefix(owner)):
        if process.same(run.data.tags["pipeline.process"], name):
            return str(run.info.run_id)
    if EXPERIMENT not in os.environ and (joined := _maker(store, shows)):
        return joined
    tags = provenance.common(params) | process.tags("pipeline", owner)
    title = os.environ.get(EXPERIMENT) or f"{params['preset']} {time.strftime('%Y-%m-%d %H:%M:%S')}"
    created = store.create(title, tags, None)
    created.log_params({key: value for key, value in params.items() if key not in NO_RESULT})
    return created.id


def _maker(store: Store, shows: Iterable[Mapping[str, str]]) -> str | None:
    """The pipeline run of the newest run with any of these tags; None without one, or where it is deleted."""
    made = [run for tags in shows for run in store.search(tags, status="FINISHED")[:1]]
    if not made:
        return None
    parent = max(made, key=lambda run: int(run.info.start_time)).data.tags.get("mlflow.parentRunId")
    return parent if parent and store.has(parent) else None


def _existing(store: Store, variable: str) -> str:
    """The run id in an environment variable; UserError where the store has no such run."""
    run_id = os.environ[variable]
    if not store.has(run_id):
        raise UserError(f"{variable}={run_id} is no run at {store.uri}: unset it, or give a run's id.")
    return run_id


def _end_parent(store: Store, run: MlflowRun, status: str, last: bool) -> None:
    """End the pipeline run with its last stage, with a failed one, or if it is this process's own.

    One that has ended, and was joined, stays as it ended.
    """
    parent = run.parent_id
    if PARENT in os.environ or parent is None:
        return
    if last or status != "FINISHED" or process.pipeline_owner().pid == os.getpid():
        entity = store.attempt(lambda: store.client.get_run(parent), urgent=True)
        if entity and entity.info.status == "RUNNING":
            store.end(parent, status)


def sweep(store: Store) -> None:
    """End the runs of this host that a process left RUNNING when it was killed, children first."""
    running = store.search({"pipeline.host": process.host()}, status="RUNNING")
    left = [run for run in running if process.gone(run.data.tags["pipeline.process"])]
    for run in sorted(left, key=lambda run: run.data.tags["pipeline.level"] == "pipeline"):
        pipeline = run.data.tags["pipeline.level"] == "pipeline"
        store.end(run.info.run_id, _status_by_children(store, run.info.run_id) if pipeline else "KILLED")


def _status_by_children(store: Store, run_id: str) -> str:
    """How a pipeline run ended that had no time to say so: as badly as the worst of its stages."""
    found = {run.info.status for run in store.search({"mlflow.parentRunId": run_id})}
    return "FAILED" if "FAILED" in found else "FINISHED" if found <= {"FINISHED"} else "KILLED"
