"""Pipeline run: one for each `dvc` process, above its stages; how runs begin, and ends no one else writes.

A stage that only shows what others made, with nothing run before it, begins no pipeline run: a report written
again stands under the pipeline run of the newest numbers it shows. An experiment of DVC's always begins one,
by its own name.
"""

from collections.abc import Iterable, Mapping

from pipeline.ncsn.errors import UserError
from pipeline.tracking import process
from pipeline.tracking.mlflow_store import Experiment, StoredRun, make
from pipeline.tracking.provenance import ATTACH, PARENT
from pipeline.tracking.record import Heading

RECORD = "pipeline.record"
"""The tag of what a run is made from, by which one whose making was not acknowledged is found."""


def begin(store: Experiment, heading: Heading, record: str, at: int) -> tuple[str, str | None]:
    """The ids of a stage's run and of its pipeline run; a run of the same record is continued.

    Raises:
        UserError: the heading names a run that the store does not have.
    """
    if heading.attach:
        run = StoredRun(store, _existing(store, ATTACH, heading.attach))
        make("set_tags", run, {"tags": heading.made_with})
        found = store.get(run.id)
        parent = found.data.tags.get("mlflow.parentRunId") if found else None
    else:
        sweep(store, heading.owner)
        parent = _parent(store, heading, at)
        run = StoredRun(store, _run(store, heading, record, parent, at))
    make("log_params", run, {"params": heading.params})
    return run.id, parent


def _run(store: Experiment, heading: Heading, record: str, parent: str, at: int) -> str:
    mark = {RECORD: record}
    for left in store.search(mark):
        run = StoredRun(store, left.info.run_id)
        store.resume(run.id)
        make("set_tags", run, {"tags": {**heading.tags, "mlflow.parentRunId": parent}})
        return run.id
    return store.create(heading.name, {**heading.tags, **mark}, parent, at)


def _parent(store: Experiment, heading: Heading, at: int) -> str:
    """The pipeline run to stand under: named by the environment, found by its process, joined, or new."""
    if heading.parent:
        return _existing(store, PARENT, heading.parent)
    for run in store.search({"pipeline.level": "pipeline"}, owner=heading.owner.rsplit("/", 1)[0] + "/"):
        if process.same(run.data.tags["pipeline.process"], heading.owner):
            return str(run.info.run_id)
    pipeline = heading.pipeline
    if not pipeline.named and (joined := _maker(store, heading.shows)):
        return joined
    created = store.create(pipeline.title, pipeline.tags, None, at)
    make("log_params", StoredRun(store, created), {"params": pipeline.params})
    return created


def _maker(store: Experiment, shows: Iterable[Mapping[str, str]]) -> str | None:
    """The pipeline run of the newest run with any of these tags; None without one, or where it is deleted."""
    made = [run for tags in shows for run in store.search(tags, status="FINISHED")[:1]]
    if not made:
        return None
    parent = max(made, key=lambda run: int(run.info.start_time)).data.tags.get("mlflow.parentRunId")
    return parent if parent and store.get(parent) else None


def _existing(store: Experiment, variable: str, run_id: str) -> str:
    if store.get(run_id) is None:
        raise UserError(f"{variable}={run_id} is no run at {store.uri}: unset it, or give a run's id.")
    return run_id


def end(store: Experiment, heading: Heading, run_id: str, parent: str | None, status: str, at: int) -> None:
    """End a stage's run, and with it the pipeline run if it is the last stage, a failed one, or alone.

    The pipeline run gets what parameters it lacks, such as what a search found, but not those of one network or
    row. One that has ended, and was joined, stays as it ended.
    """
    above = store.get(parent) if parent else None
    if above and "network" not in heading.tags and (own := store.get(run_id)):
        lacking = {k: v for k, v in own.data.params.items() if k not in above.data.params}
        make("log_params", StoredRun(store, above.info.run_id), {"params": lacking})
    if heading.attach:
        return
    store.end(run_id, status, at)
    ends = not heading.parent and (heading.last or status != "FINISHED" or heading.alone)
    if ends and above and above.info.status == "RUNNING":
        store.end(above.info.run_id, status, at)


def sweep(store: Experiment, spared: str | None = None) -> None:
    """End the runs of this host that a process left RUNNING when it ended or was killed, children first.

    But for those of the pipeline that `spared` owns: it has ended meanwhile where this is delivered late.
    """
    running = store.search({"pipeline.host": process.host()}, status="RUNNING")
    owners = {run.info.run_id: run.data.tags["pipeline.process"] for run in running}
    left = [run for run in running if _left(owners[run.info.run_id], spared)]
    for run in sorted(left, key=lambda run: run.data.tags["pipeline.level"] == "pipeline"):
        pipeline = run.data.tags["pipeline.level"] == "pipeline"
        store.end(run.info.run_id, _status_by_children(store, run.info.run_id) if pipeline else "KILLED")


def _left(owner: str, spared: str | None) -> bool:
    return process.gone(owner) and not (spared and process.same(owner, spared))


def _status_by_children(store: Experiment, run_id: str) -> str:
    """How a pipeline run ended that had no time to say so: as badly as the worst of its stages."""
    found = {run.info.status for run in store.search({"mlflow.parentRunId": run_id})}
    return "FAILED" if "FAILED" in found else "FINISHED" if found <= {"FINISHED"} else "KILLED"
