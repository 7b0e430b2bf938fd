"""Connection to Ray, the cluster of RAY_ADDRESS or one on this machine, and the device of a process without.

Ray is imported when it is connected: half a second that most stages on one machine do not need.
"""

import contextlib
import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch

from pipeline import kernels
from pipeline.environment import cores
from pipeline.ncsn.errors import UserError

UseGpu = bool | Literal["auto"]

ROOT = Path(__file__).parents[2]
REACH_S = 3.0
INHERITED = "PIPELINE_CPUS_PER_WORKER"
"""Environment of a local Ray: the CPUs of each worker that the rest of it was made for, see `worker_environment`."""
STARTS = 3
"""How often a local Ray is started before it is given up: on a busy machine it overruns its own limit of 30 s."""
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # A report, a failure and the end are noticed after this long instead of 2 s.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # Train's own loggers ignore the level given to Ray; off, they obey it.
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}
LOCAL_SETTINGS = {
    # Idle processes started in advance are of no use here: every actor of ours has an environment.
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_metrics_collection": "0",
    # The one node is this machine: slow is not dead, and a node that is called dead ends this process too.
    "RAY_health_check_timeout_ms": "60000",
    "RAY_health_check_failure_threshold": "20",
    # One secret per process, in memory: Ray would write ~/.ray/auth_token, which silently turns
    # authentication on for every later `ray start` of this user, and off again for `ray job submit`.
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    # Loopback alone, as on macOS and Windows: its processes would listen on every interface.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


logger = logging.getLogger(__name__)


def is_remote() -> bool:
    """Whether RAY_ADDRESS names a cluster; it does inside of a Ray job."""
    return os.environ.get("RAY_ADDRESS", "") not in ("", "local")


def has_gpu(use_gpu: UseGpu) -> bool:
    """Whether this process itself, without Ray, is to compute on its GPU.

    Raises:
        UserError: it must, but torch finds none.
    """
    found = torch.cuda.is_available()
    if use_gpu is True and not found:
        raise UserError(
            "compute.use_gpu is true, but torch finds no CUDA GPU on this machine: set compute.use_gpu to "
            "auto or false in params.yaml."
        )
    return found and use_gpu is not False


def device(use_gpu: UseGpu) -> str:
    """The device of this process: "cuda" or "cpu"; raises UserError as `has_gpu` does."""
    return "cuda" if has_gpu(use_gpu) else "cpu"


def is_connected() -> bool:
    """Whether this process is connected to a Ray."""
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()


@contextlib.contextmanager
def place(*, workers: int, cpus_per_worker: int, use_gpu: UseGpu) -> Iterator[str]:
    """Device for the block, "cuda" or "cpu", with Ray connected where more than this process can compute.

    That is on the cluster of RAY_ADDRESS, or on several GPUs of this machine; see `is_connected`.

    Args:
        workers, cpus_per_worker, use_gpu: see `connect`.

    Raises:
        UserError: the cluster does not answer, has too few CPUs, or there are not the GPUs asked for.
    """
    several = use_gpu is not False and torch.cuda.device_count() > 1
    if not (is_remote() or is_connected() or several):
        yield device(use_gpu)
        return
    with connect(workers=workers, cpus_per_worker=cpus_per_worker, use_gpu=use_gpu) as gpus:
        yield "cuda" if gpus else "cpu"


@contextlib.contextmanager
def connect(*, workers: int, cpus_per_worker: int, use_gpu: UseGpu) -> Iterator[int]:
    """Connection, while the block runs, to a Ray that holds these workers.

    A connection that is already there is used and left as it is.

    Args:
        workers: processes that compute at the same time.
        cpus_per_worker: CPUs, and threads, of each.
        use_gpu: a GPU for each; "auto": what GPUs there are, be they fewer than workers.

    Yields:
        The number of GPUs to use; 0: compute on CPUs.

    Raises:
        UserError: the cluster of RAY_ADDRESS does not answer, or there are too few CPUs or GPUs.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    with contextlib.ExitStack() as stack:
        if not ray.is_initialized():
            stack.enter_context(_attached() if is_remote() else _started(workers, cpus_per_worker))
        yield _check(workers, cpus_per_worker, use_gpu)


def worker_environment(cpus_per_worker: int) -> dict[str, dict[str, str]]:
    """Ray's runtime_env for a worker: it finds this package, and computes with its own threads alone.

    Empty in a local Ray that was started for such workers: they inherit all of it.
    """
    if os.environ.get(INHERITED) == str(cpus_per_worker) and not is_remote():
        return {}
    return {"env_vars": {"PYTHONPATH": f"{ROOT}:${{PYTHONPATH}}", **_alone(cpus_per_worker)}}


def _alone(cpus_per_worker: int) -> dict[str, str]:
    """Variables of a process that computes with these threads alone."""
    return {"OMP_NUM_THREADS": str(cpus_per_worker), "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


def _inherited(cpus_per_worker: int) -> dict[str, str]:
    """`worker_environment` for the environment of a local Ray."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": path, INHERITED: str(cpus_per_worker), **_alone(cpus_per_worker)}


def end_quietly() -> None:
    """Let this process, a worker of Ray's, print nothing of how Ray ends it; every other error is still printed.

    Ray ends it by a SystemExit from a signal. Where that strikes the callback of a weak reference, Python cannot
    raise it, and prints a traceback in its place.
    """
    before = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if not issubclass(unraisable.exc_type, SystemExit):
            before(unraisable)

    if before.__qualname__ != hook.__qualname__:  # a worker may be used again
        sys.unraisablehook = hook


@contextlib.contextmanager
def _started(workers: int, cpus_per_worker: int) -> Iterator[None]:
    if (cpus := workers * cpus_per_worker) > (have := cores()):
        raise _too_few(cpus, "CPUs", have, "this machine")
    import ray

    before = dict(os.environ)
    for name, value in LOCAL_SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        with _loopback(), _lean(), _in(_inherited(cpus_per_worker)):
            _start(cpus)
        os.environ[INHERITED] = str(cpus_per_worker)
        yield
    finally:
        ray.shutdown()
        for name in {*LOCAL_SETTINGS, "RAY_AUTH_MODE", INHERITED} - before.keys():
            os.environ.pop(name, None)


@contextlib.contextmanager
def _in(variables: dict[str, str]) -> Iterator[None]:
    """This process's environment with these variables, while the block runs."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ |= {} if value is None else {name: value}


def _start(cpus: int) -> None:
    """Start a Ray on this machine, again where it ran out of time; raises UserError if it never comes up."""
    import ray

    for attempt in range(1, STARTS + 1):
        try:
            return _initialise(address="local", num_cpus=cpus, include_dashboard=False)
        except Exception as error:  # Ray raises this very class where a node runs out of time
            ray.shutdown()
            _check_sockets(error)
            problem, cause = str(error).partition("\n")[0], error
            logger.warning("Ray did not start on this machine, try %d of %d: %s", attempt, STARTS, problem)
    raise UserError(
        f"Ray did not start on this machine in {STARTS} tries ({problem}): it may be too busy, or short of memory "
        "or disk. End other programs, then run again: finished work is kept."
    ) from cause


def _check_sockets(error: Exception) -> None:
    if isinstance(error, OSError) and "AF_UNIX path length" in str(error):
        name = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
        raise UserError(
            f"{name}={os.environ.get(name)} is too long for the sockets that Ray keeps there: set RAY_TMPDIR to a "
            "shorter folder of this machine, such as /tmp."
        ) from error


@contextlib.contextmanager
def _loopback() -> Iterator[None]:
    """Let a Ray that starts in the block take 127.0.0.1 as its node's address, and listen there alone."""
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER  # read from the environment when Ray was imported
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextlib.contextmanager
def _lean() -> Iterator[None]:
    """Let a Ray that starts in the block start neither a dashboard, which `include_dashboard=False` leaves running
    for usage statistics alone, nor an autoscaler: two Python processes that a single machine has no use for.
    """
    from ray._private.node import Node

    names = ("start_api_server", "start_monitor")
    before = {name: getattr(Node, name) for name in names}
    for name in names:
        setattr(Node, name, lambda self, **named: None)
    try:
        yield
    finally:
        for name, method in before.items():
            setattr(Node, name, method)


@contextlib.contextmanager
def _attached() -> Iterator[None]:
    import ray

    address = os.environ["RAY_ADDRESS"]
    _reach(address)
    try:
        _initialise(address=address, runtime_env={"env_vars": kernels.variables()})
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise UserError(
            f"RAY_ADDRESS={address} does not let this program in ({error}). Check that the cluster runs "
            f"Ray {ray.__version__} and that RAY_AUTH_TOKEN is its token, or unset RAY_ADDRESS."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Raise UserError unless something listens at HOST:PORT; Ray itself would try for a minute."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise UserError(
            f"RAY_ADDRESS={address} is no HOST:PORT: name the cluster's head node as in head.example:6379, "
            "or unset it to work on this machine."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()
    except OSError as error:
        raise UserError(
            f"RAY_ADDRESS={address} does not answer ({error}): start the cluster with `ray start "
            "--head`, correct the address, or unset RAY_ADDRESS to work on this machine."
        ) from error


def _initialise(**arguments: Any) -> None:
    """ray.init, heard only in errors; it would set this process's own root logger as well."""
    import ray

    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    try:
        ray.init(logging_config=ray.LoggingConfig(log_level="ERROR"), logging_level=logging.ERROR, **arguments)
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers


def _check(workers: int, cpus_per_worker: int, use_gpu: UseGpu) -> int:
    resources = cluster_resources()
    cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    if workers * cpus_per_worker > cpus:
        raise _too_few(workers * cpus_per_worker, "CPUs", cpus, "the Ray cluster")
    if use_gpu is True and workers > gpus:
        raise _too_few(workers, "GPUs", gpus, "the Ray cluster")
    return gpus if use_gpu else 0


def cluster_resources() -> dict[str, float]:
    """Resources of the connected Ray by name, such as CPU and GPU, in use or not."""
    import ray

    return dict(ray.cluster_resources())  # type: ignore[no-untyped-call]


def _too_few(needed: int, kind: str, have: int, where: str) -> UserError:
    other = "compute.cpus_per_worker" if kind == "CPUs" else "set compute.use_gpu to auto"
    return UserError(
        f"compute.workers needs {needed} {kind}, but {where} has {have}: lower compute.workers or {other} "
        "in params.yaml."
    )
