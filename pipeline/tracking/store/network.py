"""Networks in the registry: a version for each checkpoint, an alias for the one whose numbers are shown."""

import contextlib
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import Schema, TensorSpec

REPORTED = "reported"
"""The alias of the version whose numbers the last report shows; MLflow itself resolves `latest`."""


def register(
    client: MlflowClient,
    run_id: str,
    experiment_id: str,
    checkpoint: Path,
    name: str,
    shape: tuple[int, int, int],
    identity: str,
    described: str,
) -> None:
    """Store a checkpoint as a model of a run, and register it as a new version of `name`."""
    model_id = client.create_logged_model(experiment_id, name, run_id).model_id
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        _write_model(folder, Model(run_id=run_id, model_id=model_id), tuple(shape))
        client.log_model_artifacts(model_id, str(folder))
    # Under this name, whatever that of the folder: `served` looks for it there.
    client.log_model_artifacts(model_id, str(checkpoint), "checkpoint")
    client.finalize_logged_model(model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])
    with contextlib.suppress(MlflowException):  # it is there already
        client.create_registered_model(name)
    client.create_model_version(
        name,
        f"models:/{model_id}",
        run_id,
        tags={"checkpoint": identity},
        description=described,
        model_id=model_id,
    )


def registered(client: MlflowClient, run_id: str, name: str, identity: str) -> bool:
    """Whether the run has registered this very checkpoint."""
    same = f"name = '{name}' AND run_id = '{run_id}' AND tags.checkpoint = '{identity}'"
    return bool(client.search_model_versions(same, 1))


def describe(client: MlflowClient, identity: str, name: str, note: str) -> None:
    """Put a note behind the description of the newest version of a checkpoint, and move the alias to it."""
    same = f"name = '{name}' AND tags.checkpoint = '{identity}'"
    for newest in client.search_model_versions(same, 1, ["version_number DESC"]):
        described = f"{(newest.description or name).split(';')[0]}; {note}"
        client.update_model_version(name, newest.version, described)
        client.set_registered_model_alias(name, REPORTED, newest.version)


def _write_model(folder: Path, model: Model, shape: tuple[int, ...]) -> None:
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
            code_paths=[str(Path(__file__).parents[2])],
            mlflow_model=model,
            signature=ModelSignature(inputs=inputs, outputs=Schema([TensorSpec(real, (-1, *shape))])),
            pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in packages],
        )
