"""What MLflow's failures mean: nobody there, or an answer that will not change."""

import contextlib
from collections.abc import Iterator

from mlflow.exceptions import MlflowException

from pipeline.tracking.errors import RefusedError, UnreachableError

FINAL = (
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
)
"""The same call would be answered the same."""


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
        raise kind(uri, first_line(error)) from error
    except FileNotFoundError as error:
        raise RefusedError(uri, f"{error.filename} is gone") from error
    except OSError as error:
        raise UnreachableError(uri, first_line(error)) from error


def first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300].rstrip(".")
