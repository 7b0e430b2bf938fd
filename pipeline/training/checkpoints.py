"""The state of a training, and its checkpoints: folders that are verified before they are believed."""

import logging
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialised
from torch import Tensor, nn

from pipeline import files
from pipeline.ncsn.ema import ExponentialMovingAverage
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.networks import make_network
from pipeline.training import checksums, history
from pipeline.training.history import Row
from pipeline.training.task import Task

logger = logging.getLogger(__name__)

KEPT = 3
HISTORY = "history.csv"
KEYS = {"fingerprint", "step", "window", "rollbacks", "task"}
"""What state.json must hold."""


@dataclass
class State:
    """All that a training is after `step` optimiser steps; no generator, since draws follow from the step."""

    task: Task
    network: nn.Module
    ema: ExponentialMovingAverage
    optimizer: torch.optim.Optimizer
    step: int = 0
    history: list[Row] = field(default_factory=list)
    window: list[float] = field(default_factory=list)
    """Losses of the steps since the last row of the history."""
    rollbacks: int = 0
    """How often the run went back from a divergence; each halved the learning rate."""

    @property
    def images(self) -> int:
        """Training examples seen, repetitions counted."""
        return self.step * self.task.batch_size

    def slow_down(self, rollbacks: int) -> None:
        """Halve the task's learning rate so many times."""
        self.rollbacks = rollbacks
        for group in self.optimizer.param_groups:
            group["lr"] = self.task.lr * 0.5**rollbacks

    def record(self, loss: float) -> Row | None:
        """Count a step and its loss; returns the history's new row where one is due."""
        self.step += 1
        self.window.append(loss)
        if self.step % self.task.log_every and self.step != self.task.steps:
            return None
        self.history.append(Row(self.step, self.images, sum(self.window) / len(self.window)))
        self.window.clear()
        return self.history[-1]


def fresh(task: Task, device: torch.device | str = "cpu") -> State:
    """The state at step 0; the first weights come from the task's seed, the same on every device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.seed)
        network = make_network(**task.network)
    network.to(device).train()
    adam = torch.optim.Adam(network.parameters(), task.lr, task.betas, task.adam_eps, fused=True)
    return State(task, network, ExponentialMovingAverage(network, task.ema_rate), adam)


def folder_name(step: int) -> str:
    """`step_00001000` for 1000."""
    return f"step_{step:08d}"


def save(folder: Path, state: State, *, whole: bool = True) -> None:
    """Write a checkpoint: network, ema and optimizer as safetensors, state.json, history.csv, manifest.json.

    Args:
        whole: False: ema, state.json and manifest.json alone, which `load_network` reads and no run goes on
            from.

    Raises:
        UserError: a weight is not finite, so that nobody should go on from here.
        OSError: the disk is full; nothing is left under the name then.
    """
    if not all(bool(value.isfinite().all()) for value in state.network.parameters()):
        raise UserError(
            f"weights are not finite after step {state.step}: lower the recipe's lr ({state.task.lr})."
        )
    with checksums.writing(folder) as part:
        if whole:
            _save_tensors(part / "network.safetensors", state.network.state_dict())
            _save_tensors(part / "optimizer.safetensors", _optimizer_tensors(state))
            history.write(part / HISTORY, state.history)
        _save_tensors(part / "ema.safetensors", state.ema.state_dict())
        files.write_json(part / "state.json", _plain(state))


def _plain(state: State) -> dict[str, Any]:
    return {
        "fingerprint": state.task.fingerprint(),
        "step": state.step,
        "images": state.images,
        "window": state.window,
        "rollbacks": state.rollbacks,
        "task": state.task.plain(),
    }


def _save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    # Written by ourselves: save_file tells a full disk by an error that is no OSError.
    path.write_bytes(serialised({name: value.detach().cpu().contiguous() for name, value in tensors.items()}))


def _optimizer_tensors(state: State) -> dict[str, Tensor]:
    """Adam's `step`, `exp_avg` and `exp_avg_sq` of each parameter, named KEY/PARAMETER."""
    return {
        f"{key}/{name}": value
        for name, parameter in state.network.named_parameters()
        for key, value in state.optimizer.state[parameter].items()
    }


def load(folder: Path, task: Task, device: torch.device | str = "cpu") -> State:
    """Read a checkpoint of a task and verify it.

    Raises:
        UserError: it is damaged, or it is another task's.
    """
    plain = _read(folder)
    if plain["fingerprint"] != task.fingerprint():
        raise UserError(
            f"the checkpoint {folder} is another task's: train into another folder, or delete it."
        )
    state = fresh(task, device)
    try:
        state.network.load_state_dict(load_file(folder / "network.safetensors", str(device)))
        state.ema.load_state_dict(load_file(folder / "ema.safetensors", str(device)))
        _restore_optimizer(state, load_file(folder / "optimizer.safetensors", str(device)))
        state.history = history.read(folder / HISTORY)
        state.step, state.window = plain["step"], plain["window"]
        state.slow_down(plain["rollbacks"])
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError) as error:
        raise UserError(
            f"the checkpoint {folder} cannot be read ({error}): delete it and run again."
        ) from error
    return state


def _restore_optimizer(state: State, tensors: dict[str, Tensor]) -> None:
    parameters = dict(state.network.named_parameters())
    for name, value in tensors.items():
        key, parameter = name.split("/", 1)
        state.optimizer.state[parameters[parameter]][key] = value


def _read(folder: Path) -> dict[str, Any]:
    checksums.verify(folder)
    plain = files.read_json(folder / "state.json")
    if not isinstance(plain, dict) or KEYS - plain.keys():
        raise UserError(f"{folder / 'state.json'} is no checkpoint's: delete {folder} and run again.")
    return plain


def newest_verified(
    run_folder: Path, task: Task, device: torch.device | str = "cpu", *, every: int = 1
) -> State | None:
    """The state in the newest checkpoint of a run that verifies; None if it has no checkpoint yet.

    Those that do not verify are passed over with a warning, whatever step they claim. Only those count
    whose step is a multiple of `every`.

    Raises:
        UserError: there are checkpoints, and none verifies.
    """
    folders = checkpoints(run_folder, every)
    for folder in reversed(folders):
        try:
            return load(folder, task, device)
        except UserError as error:
            logger.warning("passing over a checkpoint: %s", error)
    if folders:
        raise UserError(
            f"none of the {len(folders)} checkpoints in {run_folder} can be used (see above): mend the disk, "
            "then delete that folder to train from the beginning."
        )
    return None


def finished(run_folder: Path, task: Task) -> Path | None:
    """The verified checkpoint of a task's last step, if the run has come to its end."""
    folder = run_folder / folder_name(task.steps)
    try:
        return folder if folder.exists() and _read(folder)["fingerprint"] == task.fingerprint() else None
    except UserError:
        return None


def checkpoints(run_folder: Path, every: int = 1) -> list[Path]:
    """The checkpoint folders of a run whose step is a multiple of `every`, oldest first."""
    found = sorted(run_folder.glob("step_" + "[0-9]" * 8))
    return [folder for folder in found if int(folder.name[5:]) % every == 0]


def prune(run_folder: Path, every: int = 1) -> None:
    """Delete what crashed writers have left, and all checkpoints but the newest.

    Those between multiples of `every`, made where a run was stopped, go once there is a newer one: a
    divergence never goes back to them.
    """
    kept = {*checkpoints(run_folder, every)[-KEPT:], *checkpoints(run_folder)[-1:]}
    for folder in {*checkpoints(run_folder), *run_folder.glob(".step_*.part")} - kept:
        shutil.rmtree(folder)


def load_network(folder: Path, device: torch.device | str = "cpu") -> nn.Module:
    """The network to sample from: averaged weights, frozen, in eval mode, with its ladder `sigmas` (L,).

    Raises:
        UserError: the checkpoint is damaged or missing.
    """
    network_of = _read(folder)["task"]["network"]
    network = make_network(**network_of)
    try:
        network.load_state_dict(load_file(folder / "ema.safetensors"))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"the checkpoint {folder} does not hold the network it names.") from error
    return network.to(device).eval().requires_grad_(False)
