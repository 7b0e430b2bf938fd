"""Entry of a stage: parameters are read, a user's mistakes reported in a line, no process left behind."""

import ctypes
import errno
import inspect
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline import dvcfile, kernels, tracking
from pipeline.cluster import job
from pipeline.ncsn.errors import UserError
from pipeline.params import Params, load
from pipeline.redaction import redact

QUIET = {
    "DO_NOT_TRACK": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
}
PR_SET_PDEATHSIG = 1

logger = logging.getLogger(__name__)


def run(main: Callable[..., None], *, submits: bool = False) -> None:
    """Run a stage's `main(params, *arguments)` on params.yaml and the command line, and exit.

    Args:
        main: the stage; its parameters after the first are positional arguments of the command line.
        submits: the stage is heavy, and goes to the cluster as a job of its own where
            `compute.job_address` names one.

    Exits with 0; with 2 and one message for a mistake of the user's; with 1 and a traceback for one of ours.
    """
    os.environ.update(QUIET)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        die_with_parent()
        _run(main, submits)
    except UserError as error:
        sys.exit(_tell(str(error)))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        place = error.filename or "the working folder"
        sys.exit(
            _tell(f"cannot read or write {place}: {error.strerror}. Fix its rights or free space, then run again.")
        )


def _run(main: Callable[..., None], submits: bool) -> None:
    params = load()
    kernels.choose(params.compute.kernels)
    arguments = _arguments(main, params)
    _announce(main, arguments)
    if submits and job.wanted(params.compute.job_address):
        _send(main, params, arguments)
    else:
        main(params, *arguments)


def _announce(main: Callable[..., None], arguments: list[str]) -> None:
    """Say what the stage will do and where it is in dvc.yaml; nothing of one that dvc.yaml lacks."""
    stages = list(dvcfile.entries(Path())) if Path("dvc.yaml").exists() else []
    key = "".join(f"@{argument}" for argument in arguments)
    names = (f"{_stage(main)}{key}", f"{_stage(main)}_more{key}")
    if name := next((name for name in names if name in stages), None):
        what = (main.__globals__["__doc__"] or "").partition(": ")[2].split("\n\n")[0]
        logger.info("stage %d of %d, %s: %s", stages.index(name) + 1, len(stages), name, " ".join(what.split()))


def _stage(main: Callable[..., None]) -> str:
    """The name of a stage's module; run with `python -m`, the module is __main__."""
    return Path(main.__globals__["__file__"]).stem


def _send(main: Callable[..., None], params: Params, arguments: list[str]) -> None:
    """Let the cluster of compute.job_address run the stage."""
    stage = _stage(main)
    name = arguments[0] if arguments else None
    address, storage = str(params.compute.job_address), params.compute.job_storage
    with tracking.relay(stage, name, params) as (environment, returns):
        job.submit(stage, name, address, storage, environment=environment, returns=returns)


def _arguments(main: Callable[..., None], params: Params) -> list[str]:
    names = list(inspect.signature(main).parameters)[1:]
    given = sys.argv[1:]
    if len(given) != len(names):
        raise UserError(f"usage: {sys.argv[0]} {' '.join(name.upper() for name in names)}; given: {given}")
    for name, value in zip(names, given, strict=True):
        known = {"network": [*params.trainings()], "row": [*params.all_rows()]}.get(name, [value])
        if value not in known:
            raise UserError(
                f"{value!r} is neither in params.yaml's `{name}s` nor one of these with a seed of "
                f"`extra_seeds` {params.extra_seeds}: it has {', '.join(known)}."
            )
    return given


def _tell(message: str) -> int:
    sys.stderr.write(f"error: {redact(message)}\n")
    return 2


def die_with_parent() -> None:
    """End with the process that started the stage, so that a killed `dvc repro` leaves no trainer (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getsid(0) not in {os.getpid(), os.getsid(os.getppid())}:  # it is gone, init in its place
            sys.exit(128 + signal.SIGTERM)
