"""A part of a trial of `tune_noise`: from step 0, or from a state on disk, to a rung, and judged there.

For trials that do not train in one go in one process: each rung by several workers (`team`), or on from
another trial's weights (`population`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.files import read_json
from pipeline.ncsn.errors import UserError
from pipeline.search.log_normal import NoiseRange
from pipeline.search.noise_trial import Setup, judged
from pipeline.training.allreduce import place
from pipeline.training.checkpoints import State, fresh, load, save
from pipeline.training.loop import train
from pipeline.training.task import Task


@dataclass(frozen=True)
class Segment:
    """A part of a training."""

    noise_range: NoiseRange
    until: int
    """The step to end with."""
    source: Path | None
    """The checkpoint to go on from, of a training on this noise range or another; None: step 0."""
    target: Path | None
    """Where to save the last state; None: nobody goes on from it."""


def trained(segment: Segment, setup: Setup) -> dict[str, Any]:
    """Train alone or as one worker of torch.distributed's default group, save, and measure.

    Returns:
        What a trial yields at a rung; nothing on workers but the first, which alone saves and measures.

    Raises:
        UserError: the loss or the samples diverged, or `source` is damaged or missing.
    """
    task = setup.task(segment.noise_range)
    state = adopted(segment.source, task, setup.device) if segment.source else None
    for event in train(task, setup.images, state=state, device=setup.device):
        if event.step == segment.until and place(None)[0] == 0:
            found = judged(event.state, event.loss, segment.noise_range, setup)
            if segment.target:
                save(segment.target, event.state)
            return found
        if event.step == segment.until:
            break
    return {}


def adopted(folder: Path, task: Task, device: str) -> State:
    """A checkpoint as the state of a task that may have another noise range: weights, their average, Adam's
    moments, step and losses are the checkpoint's, the noise is the task's.

    Raises:
        UserError: the checkpoint is damaged or missing, or the network has weights for each level, and
            the levels differ.
    """
    donor = load(folder, Task.from_plain(read_json(folder / "state.json")["task"]), device)
    if task.network["kind"] == "ncsn" and donor.task.network["sigmas"] != task.network["sigmas"]:
        raise UserError("the network ncsn has weights for each level: it cannot go on with other levels.")
    state = fresh(task, device)
    state.network.load_state_dict(_on(state, donor.network.state_dict()))
    state.ema.load_state_dict(_on(state, donor.ema.state_dict()))
    state.optimizer.load_state_dict(donor.optimizer.state_dict())
    state.step, state.history, state.window = donor.step, donor.history, donor.window
    return state


def _on(state: State, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights with the ladder of a state, which networks keep beside them."""
    return {**weights, "sigmas": state.network.state_dict()["sigmas"]}
