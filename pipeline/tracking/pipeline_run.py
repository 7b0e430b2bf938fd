"""The levels of runs: a pipeline run per `dvc` process, its stages, and the ends nobody else writes.

A stage that only shows what others made, with nothing run before it, begins no pipeline run: a report written
anew stands under the pipeline run of the newest numbers it shows. An experiment of DVC's always begins one,
by its own name.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.ncsn.errors import UserError
from pipeline.tracking import process
from pipeline.tracking.heading import ATTACH, PARENT
from pipeline.tracking.store.opening import Store
from pipeline.tracking.store.run import StoredRun

RECORD = "pipeline.record"
"""The tag of what a run is made from, by which one whose making was not acknowledged is found."""


def begin(store: Store, heading: Mapping[str, Any], record: str, at: int) -> tuple[StoredRun, str | None]:
    """The run of a stage and the id of its pipeline run; a run of the same record goes on.

    Raises:
        UserError: the heading names a run that the store does not have.
    """
    if heading["attach"]:
        run = store.run(_existing(store, ATTACH, heading["attach"]))
        run.set_tags(heading["made_with"])
        found = store.get(run.id)
        parent = found.data.tags.get("mlflow.parentRunId") if found else None
    else:
        sweep(store, heading["owner"])
        parent = _parent(store, heading, at)
        run = _run(store, heading, record, parent, at)
    run.log_params(heading["params"])
    return run, parent


def _run(store: Store, heading: Mapping[str, Any], record: str, parent: str, at: int) -> StoredRun:
    mark = {RECORD: record}
    for left in store.search(mark):
        store.again(left.info.run_id)
        run = store.run(left.info.run_id)
        run.set_tags({**heading["tags"], "mlflow.parentRunId": parent})
        return run
    return store.create(heading["name"], {**heading["tags"], **mark}, parent, at)


def _parent(store: Store, heading: Mapping[str, Any], at: int) -> str:
    """The pipeline run to stand under: named by the environment, found by its process, joined, or new."""
    if heading["parent"]:
        return _existing(store, PARENT, heading["parent"])
    name, pipeline = heading["owner"], heading["pipeline"]
    for run in store.search({"pipeline.level": "pipeline"}, owner=name.rsplit("/", 1)[0] + "/"):
        if process.same(run.data.tags["pipeline.process"], name):
            return str(run.info.run_id)
    if not pipeline["named"] and (joined := _maker(store, heading["shows"])):
        return joined
    created = store.create(pipeline["title"], pipeline["tags"], None, at)
    created.log_params(pipeline["params"])
    return created.id


def _maker(store: Store, shows: Iterable[Mapping[str, str]]) -> str | None:
    """The pipeline run of the newest run with any of these tags; None without one, or where it is deleted."""
    made = [run for tags in shows for run in store.search(tags, status="FINISHED")[:1]]
    if not made:
        return None
    parent = max(made, key=lambda run: int(run.info.start_time)).data.tags.get("mlflow.parentRunId")
    return parent if parent and store.get(parent) else None


def _existing(store: Store, variable: str, run_id: str) -> str:
    if store.get(run_id) is None:
        raise UserError(f"{variable}={run_id} is no run at {store.uri}: unset it, or give a run's id.")
    return run_id


def end(
    store: Store, heading: Mapping[str, Any], run: StoredRun, parent: str | None, how: str, at: int
) -> None:
    """End a stage's run, and with it the pipeline run if it is the last stage, a failed one, or alone.

    The pipeline run gets what parameters it lacks, such as what a search found. One that has ended, and was
    joined, stays as it ended.
    """
    above = store.get(parent) if parent else None
    if above and (own := store.get(run.id)):
        lacking = {k: v for k, v in own.data.params.items() if k not in above.data.params}
        store.run(above.info.run_id).log_params(lacking)
    if heading["attach"]:
        return
    store.end(run.id, how, at)
    ends = not heading["parent"] and (heading["last"] or how != "FINISHED" or heading["alone"])
    if ends and above and above.info.status == "RUNNING":
        store.end(above.info.run_id, how, at)


def sweep(store: Store, spared: str) -> None:
    """End the runs of this host that a process left RUNNING when it was killed, children first.

    But for those of the pipeline that `spared` owns: it has ended meanwhile where this is told late.
    """
    running = store.search({"pipeline.host": process.host()}, status="RUNNING")
    owners = {run.info.run_id: run.data.tags["pipeline.process"] for run in running}
    left = [run for run in running if _left(owners[run.info.run_id], spared)]
    for run in sorted(left, key=lambda run: run.data.tags["pipeline.level"] == "pipeline"):
        pipeline = run.data.tags["pipeline.level"] == "pipeline"
        store.end(run.info.run_id, _status_by_children(store, run.info.run_id) if pipeline else "KILLED")


def _left(owner: str, spared: str) -> bool:
    return process.gone(owner) and not process.same(owner, spared)


def _status_by_children(store: Store, run_id: str) -> str:
    """How a pipeline run ended that had no time to say so: as badly as the worst of its stages."""
    found = {run.info.status for run in store.search({"mlflow.parentRunId": run_id})}
    return "FAILED" if "FAILED" in found else "FINISHED" if found <= {"FINISHED"} else "KILLED"
