"""What a store has of runs whose ids are known."""

import os
from collections.abc import Iterable
from pathlib import Path

from mlflow.entities import Run as Entity
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline.ncsn.errors import UserError
from pipeline.tracking.heading import uri
from pipeline.tracking.runs import Record
from pipeline.tracking.store.calls import first_line


def records(root: Path, run_ids: Iterable[str]) -> dict[str, Record]:
    """See `tracking.records`; nothing is written."""
    where = uri(root)
    if not os.environ.get("MLFLOW_TRACKING_URI") and not (root / "mlflow.db").exists():
        raise UserError(f"{where} is not there: set MLFLOW_TRACKING_URI to the store that has the runs.")
    found = {}
    try:
        client = MlflowClient(where)
        for run_id in run_ids:
            if run := active(client, run_id):
                found[run_id] = Record(run.info.status, dict(run.data.tags))
    except MlflowException as error:
        raise UserError(f"MLFLOW_TRACKING_URI={where} cannot be read ({first_line(error)}).") from error
    return found


def active(client: MlflowClient, run_id: str) -> Entity | None:
    """A run that is not deleted; None where there is none of the id."""
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None
