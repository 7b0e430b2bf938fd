"""A task trained to its end in a folder: resume, train, save, agree with the other workers."""

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from pipeline.ncsn.errors import UserError
from pipeline.training import log, snapshots
from pipeline.training.allreduce import Group, gathered, rank_and_workers
from pipeline.training.checkpoints import checkpoints, finished, folder_name, newest_verified, prune, save
from pipeline.training.lock import only
from pipeline.training.log import CurvePoint, Progress
from pipeline.training.loop import DivergedError, Event, train
from pipeline.training.state import TrainingState, fresh
from pipeline.training.task import Task

STOP = "stop"
"""A file in a run's folder that asks its workers to save and end, at the next row of the loss curve."""
PATIENCE_S = 20.0
"""How long a new writer waits for one whose driver was killed: it ends with its Ray, in a few seconds."""

T = TypeVar("T")
logger = logging.getLogger(__name__)


def fit(
    task: Task,
    images: np.ndarray,
    run_folder: Path,
    *,
    group: Group = None,
    device: torch.device | str = "cpu",
) -> Path:
    """Train a task from the newest verified checkpoint in `run_folder` to its end, saving on the way.

    The folder may hold a shorter or a longer run of the same task: its checkpoints up to this task's last
    step are resumed from. Every worker calls it; the first one alone writes. All workers must see
    `run_folder`.

    Returns:
        The checkpoint folder of the last step done: the task's last one, unless `STOP` asked for an end.

    Raises:
        UserError: on every worker, whichever met it: the loss diverged, `run_folder` cannot be written to or
            is another writer's, no checkpoint in it verifies, or workers see different checkpoints.
    """
    with contextlib.ExitStack() as stack:
        together(lambda: _enter(stack, run_folder, group), run_folder, group)
        state = _resume(task, run_folder, group, device)
        while state.step < task.steps:
            try:
                for event in train(task, images, state=state, group=group, device=device):
                    if _keep(event, run_folder, group):
                        return run_folder / folder_name(event.step)
            except DivergedError as error:
                report = f"{error.report(group)} {_last_good(run_folder)}"
                if state.rollbacks >= task.rollbacks:
                    raise UserError(report) from error
                state = _rolled_back(state, report, run_folder, group, device)
    return run_folder / folder_name(task.steps)


def complete(run_folder: Path, task: Task) -> Path | None:
    """The checkpoint of a task's last step, if a run has left it and all snapshots that are due."""
    return finished(run_folder, task) if snapshots.first_missing(run_folder, task) == task.steps else None


def resumes_at(run_folder: Path, task: Task) -> int:
    """The step of the checkpoint that `fit` tries first; 0 if there is none."""
    found = checkpoints(run_folder, most=snapshots.first_missing(run_folder, task))
    return int(found[-1].name[5:]) if found else 0


def _rolled_back(
    state: TrainingState, report: str, run_folder: Path, group: Group, device: torch.device | str
) -> TrainingState:
    """The state to resume from after a divergence: the last regular checkpoint's, at half the learning rate.

    A run that is killed before its next checkpoint diverges once more, and comes here again: same bits.
    """
    back = _newest(state.task, run_folder, group, device, every=state.task.checkpoint_every)
    back.slow_down(state.rollbacks + 1)
    logger.warning("%s Going back to step %d with half the learning rate.", report, back.step)
    return back


def _enter(stack: contextlib.ExitStack, run_folder: Path, group: Group) -> None:
    run_folder.mkdir(parents=True, exist_ok=True)
    if rank_and_workers(group)[0] == 0:
        stack.enter_context(only("writer", run_folder, patience_s=PATIENCE_S))


def _resume(task: Task, run_folder: Path, group: Group, device: torch.device | str) -> TrainingState:
    """The state to start from. Its snapshot is written if it is due, since a shorter run left none."""
    missing = together(lambda: snapshots.first_missing(run_folder, task), run_folder, group)
    state = _newest(task, run_folder, group, device, most=missing)
    if state.step == missing and missing in snapshots.due(task):
        writes = rank_and_workers(group)[0] == 0
        together(lambda: snapshots.keep(run_folder, state) if writes else None, run_folder, group)
        return _resume(task, run_folder, group, device)
    return state


def _newest(task: Task, run_folder: Path, group: Group, device: torch.device | str, **which: int) -> TrainingState:
    found = together(lambda: newest_verified(run_folder, task, device, **which), run_folder, group)
    state = found or fresh(task, device)
    steps = gathered(state.step, group)
    if len(set(steps)) > 1:
        raise UserError(
            f"workers find checkpoints of steps {steps} in {run_folder}: set compute.storage to a folder "
            "that every node of the cluster sees."
        )
    return state


def _keep(event: Event, run_folder: Path, group: Group) -> bool:
    """Write what a step leaves behind; returns whether the run is to end here, which all workers agree on."""
    task, (rank, workers) = event.state.task, rank_and_workers(group)
    stopped = event.row is not None and any(gathered((run_folder / STOP).exists(), group))
    saved = stopped or event.step % task.checkpoint_every == 0 or event.step == task.steps
    kept = event.step in snapshots.due(task)

    def write() -> None:
        if event.row:
            log.append(run_folder, _line(event, event.row, workers))
        if kept:
            snapshots.keep(run_folder, event.state)
        if saved:
            save(run_folder / folder_name(event.step), event.state)
            prune(run_folder, event.step, task.checkpoint_every)

    if event.row or kept or saved:
        together(write if rank == 0 else lambda: None, run_folder, group)
    return stopped


def _line(event: Event, row: CurvePoint, workers: int) -> Progress:
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
        "compute.storage to another folder, then run again: it resumes from the last checkpoint."
    )
