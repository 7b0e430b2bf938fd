"""One experiment of a tracking store, opened: runs are made, found and ended here."""

import contextlib
import fcntl
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlflow.entities import Run as Entity
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline.ncsn.errors import UserError
from pipeline.tracking.store.calls import calling
from pipeline.tracking.store.lookup import active
from pipeline.tracking.store.run import StoredRun

MOST = 1000


class Store:
    """Its methods raise UnreachableError or RefusedError; see `calls.calling`."""

    def __init__(self, uri: str, root: Path, experiment: str) -> None:
        """
        Raises:
            UserError: the store cannot be reached or read, or its experiment is deleted.
        """
        self.uri = uri
        local = uri.startswith("sqlite")
        with calling(uri), _alone(root / "mlflow.db-lock") if local else contextlib.nullcontext():
            self.client = MlflowClient(uri)
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

    def create(self, name: str, tags: Mapping[str, str], parent: str | None, at: int) -> StoredRun:
        """Begin a run, below `parent` if that is given."""
        nesting = {"mlflow.parentRunId": parent} if parent else {}
        with calling(self.uri):
            run = self.client.create_run(self.experiment_id, at, {**tags, **nesting}, name)
        return self.run(run.info.run_id)

    def run(self, run_id: str) -> StoredRun:
        """A run that exists."""
        return StoredRun(self.client, self.uri, self.experiment_id, run_id)

    def get(self, run_id: str) -> Entity | None:
        """What the store has of a run; None where it is deleted or never was."""
        with calling(self.uri):
            return active(self.client, run_id)

    def search(self, tags: Mapping[str, str], *, owner: str = "", status: str = "") -> list[Entity]:
        """Runs with these tags, newest first; with an owner's prefix and a status, if given."""
        terms = [f"tags.`{key}` = '{value}'" for key, value in tags.items()]
        terms += [f"tags.`pipeline.process` LIKE '{owner}%'"] if owner else []
        terms += [f"attributes.status = '{status}'"] if status else []
        with calling(self.uri):
            return list(self.client.search_runs([self.experiment_id], " AND ".join(terms), max_results=MOST))

    def end(self, run_id: str, status: str, at: int | None = None) -> None:
        with calling(self.uri):
            self.client.set_terminated(run_id, status, at)

    def again(self, run_id: str) -> None:
        """Let a run that ended go on."""
        with calling(self.uri):
            self.client.update_run(run_id, "RUNNING")


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold a lock file: two processes that create one SQLite schema at once break it."""
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
