"""Snapshots: networks that a training leaves on its way, none of which is deleted, to choose from later."""

import shutil
from pathlib import Path

from pipeline import files
from pipeline.ncsn.errors import UserError
from pipeline.training import checksums
from pipeline.training.checkpoints import State, folder_name, save
from pipeline.training.task import Task


def due(task: Task) -> range:
    """The steps that leave one; the last step's checkpoint is one itself."""
    every = task.snapshot_every
    return range(every, task.steps, every) if every else range(0)


def keep(run_folder: Path, state: State) -> None:
    """Write the state's averaged weights, over what an earlier life or a rolled-back course has left there.

    To be called before the step's checkpoint is written: a run goes on behind a checkpoint, and passes every
    step behind the one before it again.

    Raises:
        UserError, OSError: as `state.save`.
    """
    save(_place(run_folder, state.step), state, whole=False)


def copy(run_folder: Path, model: Path, task: Task) -> None:
    """Copy a finished run's snapshots to the folder of its last checkpoint's copy.

    Raises:
        UserError: one is missing or damaged, which a finished training cannot make again.
    """
    for step in due(task):
        source = _place(run_folder, step)
        try:
            checksums.verify(source)
        except UserError as error:
            raise UserError(
                f"the snapshot {source} is missing or damaged: mend the disk, then delete {run_folder} to "
                "train from the beginning."
            ) from error
        shutil.copytree(source, _place(model, step))


def candidates(model: Path) -> dict[int, Path]:
    """The folders of all networks of a training by their steps, ascending: the snapshots, then `model`.

    Each is what `state.load_network` reads, and verifies.

    Raises:
        UserError: `model` is no checkpoint.
    """
    plain = files.read_json(model / "state.json")
    return {step: _place(model, step) for step in due(Task.from_plain(plain["task"]))} | {
        plain["step"]: model
    }


def _place(folder: Path, step: int) -> Path:
    return folder / checksums.SNAPSHOTS / folder_name(step)
