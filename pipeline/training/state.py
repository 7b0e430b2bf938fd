"""The state of a training: weights, their average, the optimiser, and the losses so far."""

from dataclasses import dataclass, field

import torch
from torch import nn

from pipeline.ncsn.averages import AveragedWeights
from pipeline.ncsn.networks import make_network
from pipeline.training.log import CurvePoint, last_row
from pipeline.training.optimizers import Stepper
from pipeline.training.task import Task


@dataclass
class TrainingState:
    """A training after `step` optimiser steps. It holds no generator: all noise follows from the step."""

    task: Task
    network: nn.Module
    ema: AveragedWeights
    optimizer: Stepper
    step: int = 0
    losses: list[float] = field(default_factory=list)
    """Of each step, the mean over the batch."""
    rollbacks: int = 0
    """How often the run went back from a divergence; each halved the learning rate."""

    @property
    def images(self) -> int:
        """Training examples seen, repetitions counted."""
        return self.step * self.task.batch_size

    def slow_down(self, rollbacks: int) -> None:
        """Halve the learning rate this many times, whatever the optimiser and the schedule."""
        self.rollbacks = rollbacks
        self._schedule()

    def advance(self, loss: float) -> CurvePoint | None:
        """Change the weights by their gradients, at the scheduled rate, and their average.

        Returns:
            The loss curve's new row, on the steps that have one.
        """
        self._schedule()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.ema.update(self.network, self.step)
        self.losses.append(loss)
        last = self.step == self.task.steps
        return last_row(self.losses, self.task) if last or self.step % self.task.log_every == 0 else None

    def _schedule(self) -> None:
        factor = 0.5**self.rollbacks * self.task.schedule.factor(self.step, self.task.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor


def fresh(task: Task, device: torch.device | str = "cpu") -> TrainingState:
    """The state at step 0. The first weights follow from the task's seed, the same on every device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.seed)
        network = make_network(**task.network)
    network.to(device).train()
    optimizer = task.optimizer.build(network)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return TrainingState(task, network, AveragedWeights(network, task.ema), optimizer)
