"""A task carried to its end in a folder: resume, train, save, agree with the other workers."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist

from pipeline.errors import UserError
from pipeline.training import progress
from pipeline.training.history import Row
from pipeline.training.loop import DivergedError, Event, train
from pipeline.training.progress import Progress
from pipeline.training.reduce import Group, place
from pipeline.training.state import State, checkpoints, folder_name, newest_verified, prune, save
from pipeline.training.task import Task

T = TypeVar("T")


def run(
    task: Task,
    images: np.ndarray,
    run_folder: Path,
    *,
    group: Group = None,
    device: torch.device | str = "cpu",
) -> Path:
    """Train a task from the newest verified checkpoint in `run_folder` to its end, saving on the way.

    Every worker calls it; the first writes. All workers must see `run_folder`.

    Returns:
        The checkpoint folder of the last step.

    Raises:
        UserError: on every worker, whichever met it: the loss diverged, `run_folder` cannot be written to,
            or workers see different checkpoints.
    """
    state = _resume(task, run_folder, group, device)
    try:
        for event in train(task, images, state=state, group=group, device=device):
            _keep(event, run_folder, group)
    except DivergedError as error:
        raise UserError(f"{error} {_last_good(run_folder)}") from error
    return run_folder / folder_name(task.steps)


def _resume(task: Task, run_folder: Path, group: Group, device: torch.device | str) -> State | None:
    def newest() -> State | None:
        run_folder.mkdir(parents=True, exist_ok=True)
        return newest_verified(run_folder, task, device)

    state = together(newest, run_folder, group)
    steps = gathered(state.step if state else 0, group)
    if len(set(steps)) > 1:
        raise UserError(
            f"workers find checkpoints of steps {steps} in {run_folder}: set compute.storage to a folder "
            "that every node of the cluster sees."
        )
    return state


def _keep(event: Event, run_folder: Path, group: Group) -> None:
    task, (rank, workers) = event.state.task, place(group)
    saved = event.step % task.checkpoint_every == 0 or event.step == task.steps

    def write() -> None:
        if event.row:
            progress.append(run_folder, _line(event, event.row, workers))
        if saved:
            save(run_folder / folder_name(event.step), event.state)
            prune(run_folder)

    if event.row or saved:
        together(write if rank == 0 else lambda: None, run_folder, group)


def _line(event: Event, row: Row, workers: int) -> Progress:
    steps = event.state.task.steps
    return Progress(row.step, steps, row.images, row.loss, event.seconds, event.images_per_second, workers)


def _last_good(run_folder: Path) -> str:
    kept = checkpoints(run_folder)
    return f"The last good checkpoint is {kept[-1]}." if kept else "There is no checkpoint before it."


def together(action: Callable[[], T], folder: Path, group: Group) -> T:
    """Do something in a folder on this worker; where it fails on one worker, UserError is raised on all.

    So no worker waits in a collective for one that has given up. Also a barrier.
    """
    value, problem = None, ""
    try:
        value = action()
    except UserError as error:
        problem = str(error)
    except OSError as error:
        problem = _unwritten(error, folder)
    if problems := [p for p in gathered(problem, group) if p]:
        raise UserError(problems[0])
    return value  # type: ignore[return-value]  # no problem here means that the action returned


def _unwritten(error: OSError, folder: Path) -> str:
    return (
        f"cannot write {error.filename or folder} ({error.strerror or error}): free space or set "
        "compute.storage to another folder, then run again: it goes on from the last checkpoint."
    )


def gathered(value: T, group: Group) -> list[T]:
    """Every worker's value, in the order of ranks."""
    _, workers = place(group)
    values = [value] * workers
    if workers > 1:
        dist.all_gather_object(values, value, group=group)
    return values
