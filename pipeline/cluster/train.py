"""Training on Ray Train: it starts workers and restarts them; all that a run is lies in its folder.

Ray is imported where a training begins: a second and a half that a finished one does not need.
"""

import contextlib
import logging
import os
import shutil
import signal
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch.distributed as dist

from pipeline.cluster.connect import UseGpu, connect, worker_environment
from pipeline.files import write_text
from pipeline.ncsn.errors import UserError
from pipeline.training import fit as training
from pipeline.training.fit import STOP, complete, resumes_at, together
from pipeline.training.lock import only
from pipeline.training.log import Follower, OnEvent, following
from pipeline.training.task import Task

if TYPE_CHECKING:
    import ray
    from ray.train.v2.api.config import ScalingConfig

PUBLISHED = "published"
"""A file in a run's folder, once its last checkpoint is where it is wanted: the network it is of."""
EXIT_CODE = 128 + signal.SIGTERM

logger = logging.getLogger(__name__)


def fit(
    task: Task,
    images: np.ndarray,
    run_folder: Path,
    *,
    workers: int,
    most_workers: int | None = None,
    cpus_per_worker: int,
    use_gpu: UseGpu,
    max_failures: int,
    hang_timeout_s: float = 60.0,
    on_event: OnEvent,
) -> Path:
    """Train a task to its end on Ray, from the newest verified checkpoint in its folder.

    Ray's own records decide nothing: each call is a new run of Ray's, so neither a finished nor a damaged
    one of the past can be taken for this task. A task that is finished on disk starts no Ray at all.

    Args:
        images: (N, C, H, W) uint8; workers share it through Ray's object store.
        run_folder: named by the task's fingerprint; it may hold a shorter or a longer run of the same task.
            On a cluster one that every node sees.
        workers: how many, or the fewest where `most_workers` is given: then as many as there is room for and
            micro-batches allow, while nodes come and go.
        max_failures: how often killed workers are replaced; -1: always.
        hang_timeout_s: a worker that does not answer for this long is killed and replaced.
        on_event: called in this process, from a thread, with each row of the loss curve once. Of a resumed
            run also with the earlier ones, at the spacing at which they were logged.

    Returns:
        The checkpoint folder of the last step.

    Raises:
        UserError: the loss diverged, a checkpoint cannot be written, nodes do not share `run_folder`, or Ray
            cannot hold the workers, or another process trains the same task.
        SystemExit: with 143, after SIGTERM: the run was saved at the step it had come to.
        ray.train.TrainingFailedError: workers died more than `max_failures` times.
    """
    run_folder = run_folder.resolve()
    run_folder.mkdir(parents=True, exist_ok=True)
    _announce(run_folder, task)
    (run_folder / PUBLISHED).unlink(missing_ok=True)
    if done := complete(run_folder, task):
        Follower(run_folder, on_event, task.steps).drain()
        return done
    from pipeline.cluster.trainer import at_once, scaling_of

    os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(hang_timeout_s)
    with (
        only("driver", run_folder),
        connect(
            workers=at_once(workers, most_workers, cpus_per_worker),
            cpus_per_worker=cpus_per_worker,
            use_gpu=use_gpu,
        ) as gpus,
        following(run_folder, on_event, task.steps),
        stoppable(run_folder),
    ):
        scaling = scaling_of(
            workers_on(gpus, workers, task.micro_batches),
            most_workers,
            cpus_per_worker=cpus_per_worker,
            gpu=gpus > 0,
        )
        refusal = _fit(task, images, run_folder, scaling, max_failures, worker_environment(cpus_per_worker))
    done = complete(run_folder, task)
    if done is None and not refusal and (run_folder / STOP).exists():
        logger.warning("stopped by SIGTERM and saved in %s: run again to resume", run_folder)
        sys.exit(EXIT_CODE)
    if done is None:
        raise UserError(refusal or _unshared(run_folder))
    return done


def _announce(run_folder: Path, task: Task) -> None:
    """Log from where the training resumes, before anything starts."""
    step, finished = resumes_at(run_folder, task), (run_folder / PUBLISHED).exists()
    if complete(run_folder, task):
        logger.info("the training of %d steps is finished: nothing to train", task.steps)
    elif step and finished:
        logger.info("continues the finished run of %d steps to step %d", step, task.steps)
    elif step:
        logger.info("resumes from the checkpoint of step %d of %d", step, task.steps)
    elif not task.extends and any(run_folder.parent.glob(f"*/{PUBLISHED}")):
        logger.info("begins at step 0: train.rollbacks, or a schedule of all steps, lets no shorter run be used")


def published(run_folder: Path, network: str) -> None:
    """Note that a network was copied from a run to its place, and delete its earlier such runs.

    What is unfinished, or not copied yet, is never deleted. The newest run of each network stays: a stage
    that runs again for another reason than its task trains nothing, and a longer training continues from it.
    """
    (run_folder / PUBLISHED).write_text(network)
    for mark in run_folder.parent.glob(f"*/{PUBLISHED}"):
        with contextlib.suppress(OSError):  # deleted by another pipeline that shares the storage
            if mark.parent.name != run_folder.name and mark.read_text() == network:
                shutil.rmtree(mark.parent)


def workers_on(gpus: int, workers: int, micro_batches: int) -> int:
    """How many workers train: as many as asked for or, with fewer GPUs, what they and micro-batches allow.

    With determinism "bitwise" the number changes no weight.
    """
    if not gpus or gpus >= workers:
        return workers
    from pipeline.cluster.trainer import divisor

    fewer = divisor(gpus, micro_batches)
    logger.info("training on %d GPU workers instead of %d: there are %d GPUs", fewer, workers, gpus)
    return fewer


@contextlib.contextmanager
def stoppable(run_folder: Path) -> Iterator[None]:
    """Let SIGTERM ask a run to save and stop, while the block runs; a second one is not caught.

    Asked or not, the block ends by itself, and its caller finds the run unfinished. The request is forgotten
    when a run begins.
    """
    (run_folder / STOP).unlink(missing_ok=True)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)

    def ask(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, before)
        (run_folder / STOP).touch()

    signal.signal(signal.SIGTERM, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _unshared(run_folder: Path) -> str:
    return f"{run_folder} is not the same folder on all nodes: set compute.storage to one that every node sees."


def _fit(
    task: Task,
    images: np.ndarray,
    run_folder: Path,
    scaling: "ScalingConfig",
    max_failures: int,
    environment: Mapping[str, Mapping[str, str]],
) -> str:
    """Returns the user's mistake that ended the training, if one did."""
    import ray

    from pipeline.cluster.trainer import run_workers

    records, name = run_folder / ".ray", f"{task.fingerprint()[:16]}-{uuid.uuid4().hex}"
    mark = records / f"{name}.driver"
    write_text(mark, "")
    config: _Config = {"task": task, "images": [ray.put(images)], "run_folder": run_folder, "mark": mark}
    return run_workers(
        _work,
        config,
        scaling,
        micro_batches=task.micro_batches,
        name=name,
        records=records,
        environment=environment,
        max_failures=max_failures,
    )


class _Config(TypedDict):
    task: Task
    images: list["ray.ObjectRef[np.ndarray]"]
    """In a list, since Ray would fetch it otherwise."""
    run_folder: Path
    mark: Path


def _work(config: _Config) -> str:
    """A worker's work. A mistake of the user's ends it in good order, since another try would repeat it.

    Returns the mistake instead of writing it: the disk may be full, or not the one that the driver sees.
    """
    import ray
    from ray.train.torch import get_device

    images, folder, refusal = ray.get(config["images"][0]), config["run_folder"], ""
    try:
        together(lambda: _check_shared(folder, config["mark"]), folder, None)
        training.fit(config["task"], images, folder, device=get_device())
    except UserError as error:
        refusal = str(error)
    dist.barrier()  # gloo may hang in the process group's end if workers come to it at different times
    return refusal


def _check_shared(run_folder: Path, mark: Path) -> None:
    """Raise UserError where the driver's file of this very run is not seen: before training, not after it."""
    if not mark.exists():
        raise UserError(_unshared(run_folder))
