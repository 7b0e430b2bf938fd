"""MLflow store: one experiment with its runs and registered networks. The only module that imports mlflow.

Each call that a record may hold is one function here, marked by `@recorded`: its arguments are the line's. A
call that may have arrived before is made again: it must do no harm twice, or look (`StoredRun.doubtful`).
"""

import base64
import contextlib
import fcntl
import inspect
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput, LoggedModelOutput, Metric, Param, RunTag
from mlflow.entities import Run as Entity
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import DataType, ParamSchema, ParamSpec, Schema, TensorSpec

from pipeline.files import read_json
from pipeline.git import Commit
from pipeline.ncsn.errors import UserError
from pipeline.redaction import redact
from pipeline.tracking.provenance import LONGEST, flat, revealed, store_uri
from pipeline.tracking.record import VIEW, Arguments, Record

BATCH = 1000
"""Metrics in one request, MLflow's limit."""
MOST = 1000
"""Runs in one answer."""
REPORTED = "reported"
"""The alias of the version whose numbers the last report shows; MLflow itself resolves `latest`."""
ROWS = json.dumps(
    {
        "searchFilter": "tags.stage = 'evaluate'",
        "orderByKey": "metrics.`denoised.fid`",  # by a metric: by date MLflow folds the rows below their pipeline
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [
            *(f"metrics.`{name}`" for name in ("denoised.fid", "denoised.kid", "nfe.denoised")),
            *(f"params.`{name}`" for name in ("sampler.kind", "noise.sigma_max", "recipe.optimizer.lr")),
        ],
    }
)
"""That view, as MLflow keeps one that is shared."""
DESCRIPTION = """Score networks: one run per pipeline run, below it one per stage, below that one per trial of a search.

- [The rows of the table with FID, KID and network evaluations]({view})
- The table, its figures and one page of all: artifacts of a pipeline run, `index.html`
- What the words mean: `docs/glossary.md`; how to compare rows: `docs/guides/tracking.md`
"""
FINAL = (
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
)
"""MLflow's codes for what would be answered the same way again."""


class RefusedError(UserError):
    """The store answers, and will never do this."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(f"{redact(uri)}: {reason}")


class UnreachableError(UserError):
    """The store cannot be used: wrongly named, or not up."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(
            f"MLFLOW_TRACKING_URI={redact(uri)} cannot be used ({reason}). Start the server, unset the variable for "
            "a local store, or set tracking.enabled: false in params.yaml."
        )


@contextlib.contextmanager
def calling(uri: str) -> Iterator[None]:
    """A block of calls to a store.

    Raises:
        UnreachableError: it does not answer, or cannot now.
        RefusedError: it answers, and will not do it.
    """
    try:
        yield
    except MlflowException as error:
        kind = RefusedError if error.error_code in FINAL else UnreachableError
        raise kind(uri, _first_line(error)) from error
    except FileNotFoundError as error:
        raise RefusedError(uri, f"{error.filename} is gone") from error
    except ModuleNotFoundError as error:
        mend = f"the driver of its database is missing: `pip install {error.name}`, or name a server of MLflow's"
        raise UnreachableError(uri, mend) from error
    except OSError as error:
        raise UnreachableError(uri, _first_line(error)) from error


def _first_line(error: Exception) -> str:
    return redact(str(error).strip().split("\n")[0])[:300].rstrip(".")


class Experiment:
    """One experiment of a store, opened: runs are made, found and ended here.

    Its methods raise UnreachableError or RefusedError; see `calling`.
    """

    def __init__(self, uri: str, root: Path, name: str) -> None:
        """
        Raises:
            UserError: the store cannot be reached or read, or its experiment is deleted.
        """
        self.uri = redact(uri)
        local = uri.startswith("sqlite")
        with calling(uri), _alone(root / "mlflow.db-lock") if local else contextlib.nullcontext():
            self.client = MlflowClient(revealed(uri))
            artifacts = (root / "mlartifacts").as_uri() if local else None
            self.id = self._open(name, artifacts)
            self._describe()

    def _open(self, name: str, artifacts: str | None) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self.client.create_experiment(name, artifacts))
            except MlflowException:  # another process was faster
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise UserError(f"experiment {name!r} at {self.uri} is deleted: restore it or change tracking.experiment.")
        return str(found.experiment_id)

    def _describe(self) -> None:
        """Give the experiment a description and the view of its rows, but for what it has: users edit both."""
        have = self.client.get_experiment(self.id).tags
        view = f"#/experiments/{self.id}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"
        tags = {"mlflow.note.content": DESCRIPTION.format(view=view), f"mlflow.sharedViewState.{VIEW}": ROWS}
        for key in tags.keys() - have.keys():
            self.client.set_experiment_tag(self.id, key, tags[key])

    def create(self, name: str, tags: Mapping[str, str], parent: str | None, at: int) -> str:
        """Begin a run, below `parent` if that is given; returns its id."""
        nesting = {"mlflow.parentRunId": parent} if parent else {}
        with calling(self.uri):
            run = self.client.create_run(self.id, at, {**tags, **nesting}, name)
        return str(run.info.run_id)

    def get(self, run_id: str) -> Entity | None:
        """What the store has of a run; None where it is deleted or never was."""
        with calling(self.uri):
            return _active(self.client, run_id)

    def search(self, tags: Mapping[str, str], *, owner: str = "", status: str = "") -> list[Entity]:
        """Runs with these tags, newest first; with an owner's prefix and a status, if given."""
        terms = [f"tags.`{key}` = {_quoted(value)}" for key, value in tags.items()]
        terms += [f"tags.`pipeline.process` LIKE '{owner}%'"] if owner else []
        terms += [f"attributes.status = '{status}'"] if status else []
        with calling(self.uri):
            return list(self.client.search_runs([self.id], " AND ".join(terms), max_results=MOST))

    def end(self, run_id: str, status: str, at: int | None = None) -> None:
        """End a run."""
        with calling(self.uri):
            self.client.set_terminated(run_id, status, at)

    def resume(self, run_id: str) -> None:
        """Let a run that ended go on."""
        with calling(self.uri):
            self.client.update_run(run_id, "RUNNING")


def _quoted(value: str) -> str:
    """A text as a filter has it: MLflow knows no escapes, and refuses one with both quotes."""
    return f'"{value}"' if "'" in value else f"'{value}'"


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold a lock file: two processes that create one SQLite schema at once break it."""
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def stored(root: Path, run_ids: Iterable[str]) -> dict[str, Record]:
    """What the store of a repository has of runs, by id; nothing is written. See `tracking.records`."""
    address = store_uri(root)
    where = redact(address)
    if not _is_there(root):
        raise UserError(f"{where} is not there: set MLFLOW_TRACKING_URI to the store that has the runs.")
    try:
        client = MlflowClient(address)
        found = {run_id: _active(client, run_id) for run_id in run_ids}
    except MlflowException as error:
        raise UserError(f"MLFLOW_TRACKING_URI={where} cannot be read ({_first_line(error)}).") from error
    return {key: Record(run.info.status, dict(run.data.tags)) for key, run in found.items() if run}


def _is_there(root: Path) -> bool:
    """Whether a repository has a store: MLflow would make the local one by looking."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI")) or (root / "mlflow.db").exists()


class Pages(NamedTuple):
    """What the UI can be opened on."""

    experiment: str
    """The experiment's id; empty where nothing was recorded yet."""
    rows: list[str]
    """By row of the table, the id of the newest run that evaluated it."""


def pages(root: Path, experiment: str, preset: str, rows: Iterable[str]) -> Pages:
    """The pages of a repository's store; see `tracking.pages`."""
    address = store_uri(root)
    if not _is_there(root):
        return Pages("", [])
    with calling(address):
        client = MlflowClient(address)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            return Pages("", [])
        terms = f"tags.stage = 'evaluate' AND tags.preset = {_quoted(preset)} AND attributes.status = 'FINISHED'"
        newest = client.search_runs([found.experiment_id], terms, max_results=MOST)
    by_row = {run.data.tags.get("row"): str(run.info.run_id) for run in reversed(newest)}
    return Pages(str(found.experiment_id), [by_row[row] for row in rows if row in by_row])


def _active(client: MlflowClient, run_id: str) -> Entity | None:
    """A run that is not deleted; None where there is none of the id."""
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None


@dataclass(frozen=True)
class StoredRun:
    """A run that exists, as the functions below are given it."""

    experiment: Experiment
    id: str
    parent: str | None = None
    """The pipeline run's id."""
    at: int = 0
    """When the call was made, in milliseconds since 1970."""
    doubtful: bool = False
    """The call may have arrived before, without an acknowledgement."""

    @property
    def client(self) -> MlflowClient:
        """MLflow's own client."""
        return self.experiment.client


class Point(NamedTuple):
    """A metric's value; `at` in milliseconds since 1970."""

    key: str
    value: float
    at: int
    step: int


CALLS: dict[str, Callable[..., None]] = {}
"""The functions marked by `recorded`, by name."""


def recorded(function: Callable[..., None]) -> Callable[..., None]:
    """Mark a function as the one that makes the call of its name."""
    CALLS[function.__name__] = function
    return function


def make(call: str, run: StoredRun, arguments: Arguments) -> None:
    """Make a recorded call on a run.

    Raises:
        UnreachableError: the store cannot be used now.
        RefusedError: it will not do it; or there is no such call, or not with these arguments.
    """
    uri = run.experiment.uri
    if call not in CALLS:
        raise RefusedError(uri, "there is no such call")
    try:
        inspect.signature(CALLS[call]).bind(run, **arguments)
    except TypeError as error:
        raise RefusedError(uri, str(error)) from error
    with calling(uri):
        CALLS[call](run, **arguments)


@recorded
def log_metrics(run: StoredRun, points: list[Point]) -> None:
    """Add metrics' values, but for those that a doubtful run has already."""
    _add(run, points)


def _add(run: StoredRun, points: list[Point], model_id: str | None = None) -> None:
    """Add metrics' values to a run, and to a model if one is given."""
    have = _history(run, {point.key for point in points}) if run.doubtful else set()
    new = [p for p in points if (p.key, repr(p.value), p.at, p.step) not in have]
    entities = [Metric(*p, model_id=model_id, run_id=run.id) for p in new]
    for start in range(0, len(entities), BATCH):
        run.client.log_batch(run.id, metrics=entities[start : start + BATCH])


def _history(run: StoredRun, keys: set[str]) -> set[tuple[str, str, int, int]]:
    found = [metric for key in keys for metric in run.client.get_metric_history(run.id, key)]
    return {(m.key, repr(m.value), m.timestamp, m.step) for m in found}


@recorded
def log_params(run: StoredRun, params: Mapping[str, object]) -> None:
    """Set parameters, the leaves of nested mappings."""
    entities = [Param(key, str(value)[:LONGEST]) for key, value in flat(params)]
    for start in range(0, len(entities), 100):
        run.client.log_batch(run.id, params=entities[start : start + 100])


@recorded
def set_tags(run: StoredRun, tags: Mapping[str, str]) -> None:
    """Set tags."""
    run.client.log_batch(run.id, tags=[RunTag(key, str(value)) for key, value in tags.items()])


@recorded
def log_artifact(run: StoredRun, path: Path, folder: str | None = None) -> None:
    """Store a file or folder."""
    store = run.client.log_artifacts if path.is_dir() else run.client.log_artifact
    store(run.id, str(path), folder)


@recorded
def log_picture(run: StoredRun, name: str, png: str, about: str = "") -> None:
    """Store a PNG in base64 as NAME.png, and what it shows, if that is said, as the run's description."""
    if about:
        set_tags(run, {"mlflow.note.content": about})
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / f"{name}.png"
        path.write_bytes(base64.b64decode(png))
        log_artifact(run, path)


@recorded
def log_dataset(run: StoredRun, manifest: Mapping[str, Any]) -> None:
    """Name a data set by its manifest, as MLflow's input and as a tag."""
    digest = str(manifest["sha256"]["images"])
    entity = Dataset(
        name=str(manifest["name"]),
        digest=digest[:16],
        source_type="local",
        source=json.dumps({"uri": manifest["homepage"], "files": manifest["source"]}),
        schema=json.dumps({key: manifest[key] for key in ("shape", "dtype", "range")}),
        profile=json.dumps({key: value for key, value in flat(manifest) if _short(value)}),
    )
    run.client.log_inputs(run.id, [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])])
    set_tags(run, {"data.sha256": digest})


def _short(value: object) -> bool:
    return isinstance(value, (int, float, str)) and len(str(value)) <= LONGEST


@recorded
def summarise(run: StoredRun, values: Mapping[str, float], path: Path) -> None:
    """Give the pipeline run numbers and a file or folder."""
    if run.parent:
        above = StoredRun(run.experiment, run.parent)
        log_metrics(above, [Point(key, value, run.at, 0) for key, value in values.items()])
        log_artifact(above, path)


@recorded
def log_row(run: StoredRun, identity: str, name: str, values: Mapping[str, float], drawn: Mapping[str, str]) -> None:
    """Add a row's numbers to its evaluation, to the newest version of its checkpoint and to the run that drew."""
    points = [Point(key, value, run.at, 0) for key, value in values.items()]
    for found in run.experiment.search(drawn)[:1]:
        _add(StoredRun(run.experiment, found.info.run_id, doubtful=run.doubtful), points)
    same = f"name = {_quoted(name)} AND tags.checkpoint = '{identity}'"
    newest = run.client.search_model_versions(same, 1, ["version_number DESC"])
    # By its source: the version that a search of MLflow's finds has no model_id.
    model_id = str(newest[0].source).removeprefix("models:/") if newest else None
    _add(run, points, model_id)
    if model_id:
        run.client.log_inputs(run.id, models=[LoggedModelInput(model_id)])


@recorded
def log_network(
    run: StoredRun,
    checkpoint: Path,
    name: str,
    shape: tuple[int, int, int],
    identity: str,
    manifest: Path | None = None,
    data: Path | None = None,
) -> None:
    """Store a checkpoint as a model of a run, and register it as a new version of `name`."""
    client = run.client
    same = f"name = {_quoted(name)} AND run_id = '{run.id}' AND tags.checkpoint = '{identity}'"
    if run.doubtful and client.search_model_versions(same, 1):
        return
    model_id = client.create_logged_model(run.experiment.id, name, run.id).model_id
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        channels, height, width = shape
        try:
            _write_model(folder, Model(run_id=run.id, model_id=model_id), (channels, height, width), manifest, data)
        except UserError as error:  # a damaged file, which no later attempt mends
            raise RefusedError(run.experiment.uri, str(error)) from error
        client.log_model_artifacts(model_id, str(folder))
    # Under this name, whatever that of the folder: `served` looks for it there.
    client.log_model_artifacts(model_id, str(checkpoint), "checkpoint")
    client.finalize_logged_model(model_id, "READY")
    client.log_outputs(run.id, [LoggedModelOutput(model_id, 0)])
    with contextlib.suppress(MlflowException):  # it is there already
        client.create_registered_model(name)
    client.create_model_version(
        name,
        f"models:/{model_id}",
        run.id,
        tags={"checkpoint": identity},
        description=f"{name}, commit {_commit(run).short()}",
        model_id=model_id,
    )


def _commit(run: StoredRun) -> Commit:
    tags = run.client.get_run(run.id).data.tags
    return Commit(tags.get("mlflow.source.git.commit"), dirty=tags.get("git.dirty") == "true")


def _write_model(
    folder: Path, model: Model, shape: tuple[int, int, int], manifest: Path | None, data: Path | None
) -> None:
    """A model's folder but for its checkpoint: signature, requirements, the code, and how samples are drawn."""
    import numpy as np
    from mlflow import pyfunc

    from pipeline.generate import served

    real = np.dtype(np.float32)
    inputs = Schema([TensorSpec(real, (-1, *shape), "x"), TensorSpec(real, (-1,), "sigma")])
    outputs = Schema([TensorSpec(real, (-1, *shape))])
    packages = ("mlflow", "numpy", "ruamel.yaml", "safetensors", "torch")
    asked = {"params": _asked(read_json(manifest))} if manifest else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for an example, to find out what the signature says
        pyfunc.save_model(
            folder,
            loader_module=served.__name__,
            code_paths=[str(Path(__file__).parents[1])],
            mlflow_model=model,
            signature=ModelSignature(inputs, outputs, **asked),
            pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in packages],
        )
    if manifest:
        served.write_drawn(folder, manifest, shape, data)


def _asked(drawn: Mapping[str, Any]) -> ParamSchema:
    """What a model that draws samples may be asked for, by default the score."""
    given = {
        "num_samples": (DataType.long, 0),
        "seed": (DataType.long, drawn["seed"]),
        "denoise": (DataType.boolean, True),
    }
    return ParamSchema([ParamSpec(name, kind, default) for name, (kind, default) in given.items()])


@recorded
def report_network(run: StoredRun, identity: str, name: str, note: str) -> None:
    """Put a note behind the description of the newest version of a checkpoint, and move the alias to it."""
    same = f"name = {_quoted(name)} AND tags.checkpoint = '{identity}'"
    for newest in run.client.search_model_versions(same, 1, ["version_number DESC"]):
        described = f"{(newest.description or name).split(';')[0]}; {note}"
        run.client.update_model_version(name, newest.version, described)
        run.client.set_registered_model_alias(name, REPORTED, newest.version)
