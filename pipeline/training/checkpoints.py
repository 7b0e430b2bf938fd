"""Checkpoints: folders with the state of a training, which are verified before they are used."""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialised
from torch import Tensor, nn

from pipeline import files
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.networks import make_network
from pipeline.training import checksums
from pipeline.training.state import TrainingState, fresh
from pipeline.training.task import Task

logger = logging.getLogger(__name__)

KEPT = 3
LOSSES = "losses.safetensors"


@dataclass(frozen=True)
class Saved:
    """Content of a checkpoint's state.json."""

    fingerprint: str
    step: int
    images: int
    rollbacks: int
    task: Mapping[str, Any]
    """`Task.identity` of the task that made it."""


def folder_name(step: int) -> str:
    """`step_00001000` for 1000."""
    return f"step_{step:08d}"


def save(folder: Path, state: TrainingState, *, whole: bool = True) -> None:
    """Write a checkpoint: network, ema, optimizer and losses as safetensors, state.json, manifest.json.

    Nothing in it depends on how long the training is to be, where it was interrupted, or what it logs.

    Args:
        whole: False: ema, state.json and manifest.json alone, which `load_network` reads and from which no
            run resumes.

    Raises:
        UserError: a weight or buffer, raw or averaged, is not finite: no run should resume from here, nor sample.
        OSError: the disk is full; then nothing is left under the name.
    """
    if name := first_not_finite(state.network.state_dict()) or first_not_finite(state.ema.state_dict()):
        raise UserError(
            f"weights are not finite after step {state.step} ({name}): lower the recipe's optimizer.lr "
            f"({state.task.optimizer.lr})."
        )
    with checksums.writing(folder) as part:
        if whole:
            _save_tensors(part / "network.safetensors", state.network.state_dict())
            _save_tensors(part / "optimizer.safetensors", optimizer_tensors(state))
            _save_tensors(part / LOSSES, {"loss": torch.tensor(state.losses, dtype=torch.float64)})
        _save_tensors(part / "ema.safetensors", state.ema.state_dict())
        saved = Saved(
            fingerprint=state.task.fingerprint(),
            step=state.step,
            images=state.images,
            rollbacks=state.rollbacks,
            task=state.task.identity(),
        )
        files.write_json(part / "state.json", vars(saved))


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds a NaN or an infinity; None where all are finite."""
    return next((name for name, value in tensors.items() if not bool(value.isfinite().all())), None)


def _save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    # Not by safetensors' save_file, whose error for a full disk is no OSError.
    path.write_bytes(serialised({name: value.detach().cpu().contiguous() for name, value in tensors.items()}))


def optimizer_tensors(state: TrainingState) -> dict[str, Tensor]:
    """All that any optimiser remembers of each parameter, as KEY/PARAMETER, such as `exp_avg/conv.bias`."""
    return {
        f"{key}/{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for name, parameter in state.network.named_parameters()
        for key, value in state.optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(state: TrainingState, tensors: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`."""
    parameters = dict(state.network.named_parameters())
    for name, value in tensors.items():
        key, parameter = name.split("/", 1)
        state.optimizer.state[parameters[parameter]][key] = value


def load_state(folder: Path, task: Task, device: torch.device | str = "cpu") -> TrainingState:
    """Read a checkpoint of a task and verify it.

    Raises:
        UserError: it is damaged, or it is another task's.
    """
    saved = _read(folder)
    if saved.fingerprint != task.fingerprint():
        raise UserError(f"the checkpoint {folder} is another task's: train into another folder, or delete it.")
    state = fresh(task, device)
    _fill(state, folder, saved, {})
    return state


def restore(state: TrainingState, folder: Path, *, sigmas: bool = True) -> None:
    """Replace all but the task of a state by what a verified checkpoint holds, be it another task's.

    Args:
        state: of a network with the same weights, and of the same optimiser.
        folder: the checkpoint.
        sigmas: False: the state's network keeps its own ladder.

    Raises:
        UserError: it is damaged, or it does not fit the state.
    """
    own = {} if sigmas else {"sigmas": state.network.state_dict()["sigmas"]}
    _fill(state, folder, _read(folder), own)


def _fill(state: TrainingState, folder: Path, saved: Saved, own: dict[str, Tensor]) -> None:
    device = str(next(state.network.parameters()).device)
    try:
        state.network.load_state_dict(load_file(folder / "network.safetensors", device) | own)
        state.ema.load_state_dict(load_file(folder / "ema.safetensors", device) | own)
        restore_optimizer(state, load_file(folder / "optimizer.safetensors", device))
        state.losses, state.step = read_losses(folder), saved.step
        state.slow_down(saved.rollbacks)
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError) as error:
        raise UserError(f"the checkpoint {folder} cannot be read ({error}): delete it and run again.") from error


def read_losses(folder: Path) -> list[float]:
    """The loss of each step up to a checkpoint, the mean over the batch. See `log.curve`."""
    losses: list[float] = load_file(folder / LOSSES)["loss"].tolist()
    return losses


def _read(folder: Path) -> Saved:
    checksums.verify(folder)
    try:
        return Saved(**files.read_json(folder / "state.json"))
    except TypeError as error:
        raise UserError(f"{folder / 'state.json'} is not a checkpoint's: delete {folder} and run again.") from error


def newest_verified(
    run_folder: Path,
    task: Task,
    device: torch.device | str = "cpu",
    *,
    every: int = 1,
    most: int | None = None,
) -> TrainingState | None:
    """The state in the newest checkpoint of a run that verifies; None if there is none to resume from.

    Those that do not verify are passed over with a warning, whatever step they claim.

    Args:
        every: only those count whose step is a multiple of it.
        most: only those count whose step is at most this; by default, the task's last.

    Raises:
        UserError: there are such checkpoints, and none verifies.
    """
    folders = checkpoints(run_folder, every, task.steps if most is None else most)
    for folder in reversed(folders):
        try:
            return load_state(folder, task, device)
        except UserError as error:
            logger.warning("skipping a checkpoint: %s", error)
    if folders:
        raise UserError(
            f"none of the {len(folders)} checkpoints in {run_folder} can be used (see above): check the "
            "disk, then delete that folder to train from the beginning."
        )
    return None


def finished(run_folder: Path, task: Task) -> Path | None:
    """The verified checkpoint of a task's last step, if its run, or a longer one, has left it."""
    folder = run_folder / folder_name(task.steps)
    try:
        return folder if folder.exists() and _read(folder).fingerprint == task.fingerprint() else None
    except UserError:
        return None


def checkpoints(run_folder: Path, every: int = 1, most: int | None = None) -> list[Path]:
    """The checkpoint folders of a run by step: multiples of `every` up to the step `most`."""
    found = {int(folder.name[5:]): folder for folder in run_folder.glob("step_" + "[0-9]" * 8)}
    return [found[step] for step in sorted(found) if step % every == 0 and (most is None or step <= most)]


def prune(run_folder: Path, step: int, every: int = 1) -> None:
    """Delete what crashed writers have left, and all checkpoints up to a step but the newest ones.

    Those between multiples of `every`, made where a run was stopped or ended, go once there is a newer one: a
    divergence never goes back to them. Those beyond the step are a longer run's, and stay.
    """
    kept = {*checkpoints(run_folder, every, step)[-KEPT:], *checkpoints(run_folder, most=step)[-1:]}
    for folder in {*checkpoints(run_folder, most=step), *run_folder.glob(".step_*.part")} - kept:
        shutil.rmtree(folder)


def load_network(folder: Path, device: torch.device | str = "cpu") -> nn.Module:
    """The network to sample from: averaged weights, frozen, in eval mode, with its ladder `sigmas` (L,).

    Raises:
        UserError: the checkpoint is damaged or missing.
    """
    network_of = _read(folder).task["network"]
    network = make_network(**network_of)
    try:
        network.load_state_dict(load_file(folder / "ema.safetensors"))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"the checkpoint {folder} does not hold the network it names.") from error
    return network.to(device).eval().requires_grad_(False)
