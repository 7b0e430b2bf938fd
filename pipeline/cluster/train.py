"""Training on Ray Train: it starts workers and starts them again; what a run is stands in its folder."""

import contextlib
import logging
import os
import shutil
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.train
import torch.distributed as dist
from ray.train.torch import get_device

from pipeline.cluster.connect import UseGpu, connect, worker_environment
from pipeline.cluster.elastic import LeanTrainer, at_once, divisor, scaled
from pipeline.cluster.stopping import EXIT_CODE, asked, stoppable
from pipeline.files import write_text
from pipeline.ncsn.errors import UserError
from pipeline.training.checkpoints import finished
from pipeline.training.fit import run, together
from pipeline.training.lock import only
from pipeline.training.progress import Follower, OnEvent, following
from pipeline.training.task import Task

PUBLISHED = "published"
"""A file in a run's folder, once its last checkpoint is where it is wanted: the variant it is of."""

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
        run_folder: the task's own; on a cluster one that every node sees.
        workers: how many, or the fewest where `most_workers` is given: then as many as there is room for and
            microshards allow, while nodes come and go.
        max_failures: how often killed workers are replaced; -1: always.
        hang_timeout_s: a worker that does not answer for so long is killed and replaced.
        on_event: called in this process, from a thread, with each row of the history once, earlier ones of a
            resumed run included.

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
    (run_folder / PUBLISHED).unlink(missing_ok=True)
    if done := finished(run_folder, task):
        Follower(run_folder, on_event).drain()
        return done
    os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(hang_timeout_s)
    with (
        only("driver", run_folder),
        connect(
            workers=at_once(workers, most_workers, cpus_per_worker),
            cpus_per_worker=cpus_per_worker,
            use_gpu=use_gpu,
        ) as gpus,
        following(run_folder, on_event),
        stoppable(run_folder),
    ):
        scaling = ray.train.ScalingConfig(
            **scaled(workers_on(gpus, workers, task.microshards), most_workers),
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": cpus_per_worker, **({"GPU": 1} if gpus else {})},
        )
        refusal = _fit(task, images, run_folder, scaling, max_failures, worker_environment(cpus_per_worker))
    done = finished(run_folder, task)
    if done is None and not refusal and asked(run_folder):
        logger.warning("stopped by SIGTERM and saved in %s: run again to go on", run_folder)
        sys.exit(EXIT_CODE)
    if done is None:
        raise UserError(refusal or _unshared(run_folder))
    return done


def published(run_folder: Path, variant: str) -> None:
    """Note that a variant's result was copied from a run to its place, and delete its earlier such runs.

    What is unfinished, or not copied yet, is never deleted; the newest run of each variant stays, so that a
    stage that has to run again for another reason than its task trains nothing.
    """
    (run_folder / PUBLISHED).write_text(variant)
    for mark in run_folder.parent.glob(f"*/{PUBLISHED}"):
        with contextlib.suppress(OSError):  # deleted by another pipeline that shares the storage
            if mark.parent.name != run_folder.name and mark.read_text() == variant:
                shutil.rmtree(mark.parent)


def workers_on(gpus: int, workers: int, microshards: int) -> int:
    """How many workers train: as many as wanted or, where GPUs are fewer, what they and microshards allow.

    The number changes no weight in elastic mode.
    """
    if not gpus or gpus >= workers:
        return workers
    fewer = divisor(gpus, microshards)
    logger.info("training on %d GPU workers instead of %d: the GPUs are %d", fewer, workers, gpus)
    return fewer


def _unshared(run_folder: Path) -> str:
    return (
        f"{run_folder} is not the same folder on all nodes: set compute.storage to one that every node sees."
    )


def _fit(
    task: Task,
    images: np.ndarray,
    run_folder: Path,
    scaling: ray.train.ScalingConfig,
    max_failures: int,
    environment: dict[str, Any],
) -> str:
    """Returns the user's mistake that ended the training, if one did."""
    records, name = run_folder / ".ray", f"{task.fingerprint()[:16]}-{uuid.uuid4().hex}"
    mark = records / f"{name}.driver"
    trainer = LeanTrainer(
        _work,
        microshards=task.microshards,
        train_loop_config={
            "task": task,
            "images": [ray.put(images)],
            "run_folder": run_folder,
            "mark": mark,
        },
        scaling_config=scaling,
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=str(records),
            failure_config=ray.train.FailureConfig(max_failures=max_failures),
            worker_runtime_env=environment,  # type: ignore[call-arg]  # mypy sees version 1's
        ),
    )
    try:
        write_text(mark, "")
        return trainer.fit().return_value or ""  # type: ignore[attr-defined]  # mypy sees version 1's
    finally:
        shutil.rmtree(records, ignore_errors=True)


def _work(config: dict[str, Any]) -> str:
    """A worker's life. A mistake of the user's ends it in good order, since trying again would repeat it.

    Returns the mistake instead of writing it: the disk may be full, or not the one that the driver sees.
    """
    images, folder, refusal = ray.get(config["images"][0]), config["run_folder"], ""
    try:
        together(lambda: _check_shared(folder, config["mark"]), folder, None)
        run(config["task"], images, folder, device=get_device())
    except UserError as error:
        refusal = str(error)
    dist.barrier()  # gloo may hang in the process group's end if workers come to it at different times
    return refusal


def _check_shared(run_folder: Path, mark: Path) -> None:
    """Raise UserError where the driver's file of this very run is not seen: before training, not after it."""
    if not mark.exists():
        raise UserError(_unshared(run_folder))
