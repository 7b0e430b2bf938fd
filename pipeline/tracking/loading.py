"""MLflow's client loaded quietly, soon, and only where it is needed."""

import contextlib
import gc
import os
from collections.abc import Iterator, Mapping

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
HASTE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "3", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
"""A dead server is noticed in seconds: MLflow on its own tries for 246."""


@contextlib.contextmanager
def environment(variables: Mapping[str, str] = QUIET | HASTE) -> Iterator[None]:
    """Set the variables that are not set, for the block."""
    ours = [name for name in variables if name not in os.environ]
    os.environ.update({name: variables[name] for name in ours})
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Import without the garbage collector, which finds nothing there, again and again, in half the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
