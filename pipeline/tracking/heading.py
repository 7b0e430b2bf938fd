"""What only a stage's own process knows of its run: the first line of its record."""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.tracking import process, provenance

PARENT = "PIPELINE_PARENT_RUN"
"""Environment: the run id that stages take as their parent, in place of the one of their `dvc` process."""
ATTACH = "PIPELINE_RUN"
"""Environment, inside a job: the stage's run id, begun and ended by the process that submitted the job."""
EXPERIMENT = "DVC_EXP_NAME"
"""Environment, set by `dvc exp run` in a stage: the experiment's name, given or made up."""
NO_RESULT = ("compute", "tracking")
"""Sections of the parameters that change no result."""


def uri(root: Path) -> str:
    """The tracking store: MLFLOW_TRACKING_URI, or mlflow.db in the repository."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root / 'mlflow.db'}"


def heading(
    root: Path,
    stage: str,
    variant: str | None,
    params: dict[str, Any],
    *,
    last: bool,
    shows: Iterable[Mapping[str, str]],
) -> dict[str, Any]:
    """The arguments of a record's line "begin": plain values, all that the run's beginning needs."""
    owner = process.pipeline_owner()
    sections = provenance.sections(stage, variant, params)
    tags = provenance.tags(stage, variant, params) | process.tags("stage")
    title = os.environ.get(EXPERIMENT) or f"{params['preset']} {time.strftime('%Y-%m-%d %H:%M:%S')}"
    return {
        "uri": uri(root),
        "root": str(root),
        "experiment": params["tracking"]["experiment"],
        "identity": _identity(stage, variant, sections, tags),
        "name": " ".join(filter(None, (stage, variant))),
        "params": sections,
        "tags": tags,
        "made_with": provenance.made_with(),
        "owner": process.key(owner),
        "alone": owner.pid == os.getpid(),
        "last": last,
        "shows": list(map(dict, shows)),
        "parent": os.environ.get(PARENT),
        "attach": os.environ.get(ATTACH),
        "pipeline": {
            "named": EXPERIMENT in os.environ,
            "title": title,
            "tags": provenance.common(params) | process.tags("pipeline", owner),
            "params": {key: value for key, value in params.items() if key not in NO_RESULT},
        },
    }


def _identity(stage: str, variant: str | None, sections: dict[str, str], tags: dict[str, str]) -> str:
    """SHA-256 of what a stage does: a run that was killed goes on with a stage that does the same."""
    inputs = {key: value for key, value in tags.items() if key.startswith("dvc.")}
    text = json.dumps([stage, variant, sections, inputs], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
