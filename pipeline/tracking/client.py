"""MLflow's client, batched and forgiving: the only module that imports mlflow."""

import contextlib
import fcntl
import json
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, RunTag
from mlflow.entities import Run as Entity
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import Schema, TensorSpec

from pipeline.commit import commit
from pipeline.errors import UserError
from pipeline.files import sha256
from pipeline.tracking import PATIENCE, process
from pipeline.tracking.provenance import LONGEST, flat, numbers
from pipeline.tracking.runs import NullRun, Record, Run, status_of

BATCH = 1000
"""Metrics in one request, MLflow's limit."""
FLUSH_SECONDS = 2.0
PAUSE_SECONDS = 30.0
"""How long a store that failed is left alone."""
HASTE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "3", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
"""Before the work begins, in place of PATIENCE: a dead server is told at once."""

REPORTED = "reported"
"""The alias of the version whose numbers the last report shows; MLflow itself resolves `latest`."""

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")


def records(root: Path, run_ids: Iterable[str]) -> dict[str, Record]:
    """See `tracking.records`; nothing is written."""
    uri = _uri(root)
    if not os.environ.get("MLFLOW_TRACKING_URI") and not (root / "mlflow.db").exists():
        raise UserError(f"{uri} is not there: set MLFLOW_TRACKING_URI to the store that has the runs.")
    found = {}
    try:
        client = MlflowClient(uri)
        for run_id in run_ids:
            if run := _run(client, run_id):
                found[run_id] = Record(run.info.status, dict(run.data.tags))
    except MlflowException as error:
        raise UserError(f"MLFLOW_TRACKING_URI={uri} cannot be read ({_first_line(error)}).") from error
    return found


def _run(client: MlflowClient, run_id: str) -> Entity | None:
    """A run that is not deleted; None where there is none of the id."""
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None


def _uri(root: Path) -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root / 'mlflow.db'}"


class Store:
    """One experiment of the tracking store: MLFLOW_TRACKING_URI, or mlflow.db in the repository."""

    def __init__(self, root: Path, experiment: str) -> None:
        """
        Raises:
            UserError: the store cannot be reached or read, or its experiment is deleted.
        """
        self.uri = _uri(root)
        self._lost, self._quiet_until = 0, 0.0
        local = self.uri.startswith("sqlite")
        with self.opening(), _alone(root / "mlflow.db-lock") if local else contextlib.nullcontext():
            self.client = MlflowClient(self.uri)
            artifacts = (root / "mlartifacts").as_uri() if local else None
            self.experiment_id = self._experiment(experiment, artifacts)

    def _experiment(self, name: str, artifacts: str | None) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self.client.create_experiment(name, artifacts))
            except MlflowException:  # another process was faster
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise UserError(
                f"experiment {name!r} at {self.uri} is deleted: restore it or change tracking.experiment."
            )
        return str(found.experiment_id)

    @contextlib.contextmanager
    def opening(self) -> Iterator[None]:
        """The time before the work begins, in which a failure of the store is a UserError, and soon."""
        free = [name for name in PATIENCE if os.environ.get(name, PATIENCE[name]) == PATIENCE[name]]
        os.environ.update({name: HASTE[name] for name in free})
        try:
            yield
        except MlflowException as error:
            raise UserError(
                f"MLFLOW_TRACKING_URI={self.uri} cannot be used ({_first_line(error)}). Start the server, "
                "unset the variable for a local store, or set tracking.enabled: false in params.yaml."
            ) from error
        finally:
            os.environ.update({name: PATIENCE[name] for name in free})

    def attempt(self, call: Callable[[], Answer], *, urgent: bool = False) -> Answer | None:
        """Call the store; a failure is told once, counted, and gives None, as do calls soon after it."""
        if time.monotonic() < self._quiet_until and not urgent:
            self._lost += 1
            return None
        try:
            return call()
        except (MlflowException, OSError) as error:
            if not self._lost:
                logger.warning("tracking: %s failed (%s); the stage goes on", self.uri, _first_line(error))
            self._lost, self._quiet_until = self._lost + 1, time.monotonic() + PAUSE_SECONDS
            return None

    def tell_losses(self) -> None:
        """Say how many records did not arrive, if any."""
        if self._lost:
            logger.warning("tracking: %d records did not reach %s", self._lost, self.uri)

    def create(self, name: str, tags: Mapping[str, str], parent: str | None) -> "MlflowRun":
        """Begin a run, below `parent` if that is given."""
        nesting = {"mlflow.parentRunId": parent} if parent else {}
        run = self.client.create_run(self.experiment_id, tags={**tags, **nesting}, run_name=name)
        return MlflowRun(self, run.info.run_id, parent)

    def attach(self, run_id: str) -> "MlflowRun":
        """A run that exists."""
        return MlflowRun(self, run_id, self.client.get_run(run_id).data.tags.get("mlflow.parentRunId"))

    def has(self, run_id: str) -> bool:
        """Whether there is such a run, and it is not deleted."""
        return _run(self.client, run_id) is not None

    def search(self, tags: Mapping[str, str], *, owner: str = "", status: str = "") -> list[Entity]:
        """Runs with these tags, newest first; with an owner's prefix and a status, if given."""
        terms = [f"tags.`{key}` = '{value}'" for key, value in tags.items()]
        terms += [f"tags.`pipeline.process` LIKE '{owner}%'"] if owner else []
        terms += [f"attributes.status = '{status}'"] if status else []
        return list(self.client.search_runs([self.experiment_id], " AND ".join(terms), max_results=BATCH))

    def end(self, run_id: str, status: str) -> None:
        self.attempt(lambda: self.client.set_terminated(run_id, status), urgent=True)


class MlflowRun:
    """A run in the store; see `runs.Run`. Failures after its beginning go to `Store.attempt`."""

    def __init__(self, store: Store, run_id: str, parent_id: str | None) -> None:
        self.id, self.parent_id = run_id, parent_id
        self._store, self._client = store, store.client
        self._pending: list[Metric] = []
        self._flushed = time.monotonic()
        self._params: dict[str, str] = {}

    def log_metrics(self, values: Mapping[str, Any], step: int = 0) -> None:
        now = int(time.time() * 1000)
        self._pending += [Metric(key, value, now, step) for key, value in numbers(values).items()]
        if len(self._pending) >= BATCH or time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._flush()

    def _flush(self, *, urgent: bool = False) -> None:
        """Send what waits; what fails waits on."""
        self._flushed = time.monotonic()
        while batch := self._pending[:BATCH]:
            if not self._store.attempt(lambda: self._batch(self.id, metrics=batch), urgent=urgent):
                return
            del self._pending[:BATCH]

    def _batch(self, run_id: str, **content: Any) -> bool:
        self._client.log_batch(run_id, **content)
        return True

    def log_params(self, params: Mapping[str, Any]) -> None:
        short = {key: str(value)[:LONGEST] for key, value in flat(params)}
        self._params |= short
        self._send_params(self.id, short)

    def _send_params(self, run_id: str, params: Mapping[str, str]) -> None:
        entities = [Param(key, value) for key, value in params.items()]
        for start in range(0, len(entities), 100):
            self._store.attempt(lambda: self._batch(run_id, params=entities[start : start + 100]))  # noqa: B023

    def set_tags(self, tags: Mapping[str, str]) -> None:
        entities = [RunTag(key, str(value)) for key, value in tags.items()]
        self._store.attempt(lambda: self._batch(self.id, tags=entities))

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        store = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        self._store.attempt(lambda: store(self.id, str(path), folder))

    def log_dataset(self, manifest: Mapping[str, Any]) -> None:
        digest = str(manifest["sha256"]["images"])
        entity = Dataset(
            name=str(manifest["name"]),
            digest=digest[:16],
            source_type="local",
            source=json.dumps({"uri": manifest["homepage"], "files": manifest["source"]}),
            schema=json.dumps({key: manifest[key] for key in ("shape", "dtype", "range")}),
            profile=json.dumps({key: value for key, value in flat(manifest) if _short(value)}),
        )
        inputs = [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])]
        self._store.attempt(lambda: self._client.log_inputs(self.id, inputs))
        self.set_tags({"data.sha256": digest})

    def log_network(self, checkpoint: Path, name: str, shape: tuple[int, int, int]) -> None:
        self._store.attempt(lambda: self._register(checkpoint, name, shape))

    def _register(self, checkpoint: Path, name: str, shape: tuple[int, int, int]) -> None:
        made = self._client.create_logged_model(self._store.experiment_id, name, self.id)
        model_id = made.model_id
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "model"
            _write_model(folder, Model(run_id=self.id, model_id=model_id), shape)
            self._client.log_model_artifacts(model_id, str(folder))
        self._client.log_model_artifacts(model_id, str(checkpoint), "checkpoint")
        self._client.finalize_logged_model(model_id, "READY")
        self._client.log_outputs(self.id, [LoggedModelOutput(model_id, 0)])
        with contextlib.suppress(MlflowException):  # it is there already
            self._client.create_registered_model(name)
        self._client.create_model_version(
            name,
            f"models:/{model_id}",
            self.id,
            tags={"checkpoint": _identity(checkpoint)},
            description=f"{name}, commit {commit().short()}",
            model_id=model_id,
        )

    def report_network(self, checkpoint: Path, name: str, note: str) -> None:
        self._store.attempt(lambda: self._describe(checkpoint, name, note))

    def _describe(self, checkpoint: Path, name: str, note: str) -> None:
        same = f"name = '{name}' AND tags.checkpoint = '{_identity(checkpoint)}'"
        for newest in self._client.search_model_versions(same, 1, ["version_number DESC"]):
            described = f"{(newest.description or name).split(';')[0]}; {note}"
            self._client.update_model_version(name, newest.version, described)
            self._client.set_registered_model_alias(name, REPORTED, newest.version)

    def summarise(self, values: Mapping[str, float], path: Path) -> None:
        if self.parent_id is not None:
            parent = MlflowRun(self._store, self.parent_id, None)
            parent.log_metrics(values)
            parent.log_artifact(path)
            parent._flush(urgent=True)

    def child(self, name: str, params: Mapping[str, Any] | None = None) -> Run:
        run = self._store.attempt(lambda: self._store.create(name, process.tags("trial"), self.id))
        if run is None:
            return NullRun()
        run.log_params(params or {})
        return run

    def share_params(self) -> None:
        """Send what waits, and copy to the parent what parameters it lacks, such as what a search found."""
        self._flush(urgent=True)
        parent = self.parent_id
        if parent is None or (entity := self._store.attempt(lambda: self._client.get_run(parent))) is None:
            return
        self._send_params(parent, {k: v for k, v in self._params.items() if k not in entity.data.params})

    def end(self, status: str = "FINISHED") -> None:
        self._flush(urgent=True)
        self._store.end(self.id, status)

    def find(self, tags: Mapping[str, str]) -> str | None:
        found = self._store.attempt(lambda: self._store.search(tags, status="FINISHED")) or []
        return str(found[0].info.run_id) if found else None

    def tags_of(self, run_id: str) -> dict[str, str]:
        run = self._store.attempt(lambda: self._client.get_run(run_id))
        return dict(run.data.tags) if run else {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(status_of(error))


def _write_model(folder: Path, model: Model, shape: tuple[int, int, int]) -> None:
    """A model's folder but for its checkpoint: signature, requirements, and the code that `served` needs."""
    import numpy as np
    from mlflow import pyfunc

    real = np.dtype(np.float32)
    inputs = Schema([TensorSpec(real, (-1, *shape), "x"), TensorSpec(real, (-1,), "sigma")])
    packages = ("mlflow", "numpy", "safetensors", "torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for an example, to find out what the signature says
        pyfunc.save_model(
            folder,
            loader_module="pipeline.tracking.served",
            code_paths=[str(Path(__file__).parents[1])],
            mlflow_model=model,
            signature=ModelSignature(inputs=inputs, outputs=Schema([TensorSpec(real, (-1, *shape))])),
            pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in packages],
        )


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold a lock file: two processes that create one SQLite schema at once break it."""
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _identity(checkpoint: Path) -> str:
    """A checkpoint by the SHA-256 of its manifest, which lists those of its files; "none" without one."""
    manifest = checkpoint / "manifest.json"
    return sha256(manifest) if manifest.exists() else "none"


def _short(value: Any) -> bool:
    return isinstance(value, (int, float, str)) and len(str(value)) <= LONGEST


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300].rstrip(".")
