"""One run of a store, told what a record says; what was told already may be told again."""

import base64
import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from pipeline.tracking.provenance import LONGEST, flat
from pipeline.tracking.store.calls import calling
from pipeline.tracking.store.network import describe, register, registered

BATCH = 1000
"""Metrics in one request, MLflow's limit."""


class Point(NamedTuple):
    """A metric's value; `at` in milliseconds since 1970."""

    key: str
    value: float
    at: int
    step: int


class StoredRun:
    """Its methods raise UnreachableError or RefusedError; see `calls.calling`."""

    def __init__(self, client: MlflowClient, uri: str, experiment_id: str, run_id: str) -> None:
        self.id, self.client = run_id, client
        self._uri, self._experiment_id = uri, experiment_id

    def points(self, points: Iterable[Point]) -> None:
        entities = [Metric(*point) for point in points]
        with calling(self._uri):
            for start in range(0, len(entities), BATCH):
                self.client.log_batch(self.id, metrics=entities[start : start + BATCH])

    def missing(self, points: Iterable[Point]) -> list[Point]:
        """Those that the store does not have yet."""
        asked = list(points)
        with calling(self._uri):
            have = {
                (m.key, repr(m.value), m.timestamp, m.step)
                for key in {point.key for point in asked}
                for m in self.client.get_metric_history(self.id, key)
            }
        return [p for p in asked if (p.key, repr(p.value), p.at, p.step) not in have]

    def log_params(self, params: Mapping[str, Any]) -> None:
        entities = [Param(key, str(value)[:LONGEST]) for key, value in flat(params)]
        with calling(self._uri):
            for start in range(0, len(entities), 100):
                self.client.log_batch(self.id, params=entities[start : start + 100])

    def set_tags(self, tags: Mapping[str, str]) -> None:
        with calling(self._uri):
            self.client.log_batch(self.id, tags=[RunTag(key, str(value)) for key, value in tags.items()])

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        store = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        with calling(self._uri):
            store(self.id, str(path), folder)

    def log_picture(self, name: str, png: str) -> None:
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / f"{name}.png"
            path.write_bytes(base64.b64decode(png))
            self.log_artifact(path)

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
        with calling(self._uri):
            self.client.log_inputs(
                self.id, [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])]
            )
        self.set_tags({"data.sha256": digest})

    def log_network(
        self, checkpoint: Path, name: str, shape: tuple[int, int, int], identity: str, described: str
    ) -> None:
        with calling(self._uri):
            register(self.client, self.id, self._experiment_id, checkpoint, name, shape, identity, described)

    def has_network(self, name: str, identity: str) -> bool:
        """Whether this run registered this very checkpoint."""
        with calling(self._uri):
            return registered(self.client, self.id, name, identity)

    def report_network(self, identity: str, name: str, note: str) -> None:
        with calling(self._uri):
            describe(self.client, identity, name, note)


def _short(value: Any) -> bool:
    return isinstance(value, (int, float, str)) and len(str(value)) <= LONGEST
