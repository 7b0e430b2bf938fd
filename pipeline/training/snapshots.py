"""Snapshots: averaged weights that a training keeps for good, to choose a checkpoint from later."""

import shutil
from pathlib import Path

from pipeline import files
from pipeline.ncsn.errors import UserError
from pipeline.training import checksums
from pipeline.training.checkpoints import folder_name, save
from pipeline.training.state import TrainingState
from pipeline.training.task import Task


def due(task: Task) -> range:
    """The steps that leave a snapshot; the last step's checkpoint is one itself."""
    every = task.snapshot_every
    return range(every, task.steps, every) if every else range(0)


def first_missing(run_folder: Path, task: Task) -> int:
    """The first step whose snapshot is still to be made, which no run may resume after; or the last step.

    Some are missing where an earlier run of the task kept fewer, or was shorter.
    """
    missing = (step for step in due(task) if not (_place(run_folder, step) / checksums.MANIFEST).exists())
    return next(missing, task.steps)


def keep(run_folder: Path, state: TrainingState) -> None:
    """Write the state's averaged weights, replacing those that an interrupted or rolled-back run has left.

    To be called before the step's checkpoint is written: a run resumes from a checkpoint, and repeats every
    step after it.

    Raises:
        UserError, OSError: as `checkpoints.save`.
    """
    save(_place(run_folder, state.step), state, whole=False)


def copy(run_folder: Path, model: Path, task: Task) -> None:
    """Copy a finished run's snapshots next to a copy of its last checkpoint.

    Raises:
        UserError: one is missing or damaged.
    """
    for step in due(task):
        source = _place(run_folder, step)
        try:
            checksums.verify(source)
        except UserError as error:
            raise UserError(
                f"the snapshot {source} is missing or damaged: check the disk, then delete this folder and "
                "run again, which repeats the training up to its step."
            ) from error
        shutil.copytree(source, _place(model, step))


def candidates(model: Path) -> dict[int, Path]:
    """The folders of all networks of a training by their steps, ascending: the snapshots, then `model`.

    Each is what `checkpoints.load_network` reads, and verifies.

    Raises:
        UserError: `model` is no checkpoint.
    """
    last: int = files.read_json(model / "state.json")["step"]
    kept = sorted((model / checksums.SNAPSHOTS).glob("step_" + "[0-9]" * 8))
    return {int(folder.name[5:]): folder for folder in kept} | {last: model}


def _place(folder: Path, step: int) -> Path:
    return folder / checksums.SNAPSHOTS / folder_name(step)
