"""The training loop: an iterator of events, which knows neither Ray nor MLflow.

Y. Song, S. Ermon, arXiv 1907.05600 (equations 5 and 6) and arXiv 2006.09011 (techniques 3 and 5).
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.execution import evaluated
from pipeline.ncsn.losses import denoising_score_matching
from pipeline.ncsn.score import Score
from pipeline.training.allreduce import Group, gathered, rank_and_workers, sum_in_order
from pipeline.training.batches import MicroBatch, micro_batches
from pipeline.training.log import CurvePoint
from pipeline.training.state import TrainingState, fresh
from pipeline.training.task import Task

Backward = Callable[[list[MicroBatch]], Tensor]
"""From a worker's micro-batches to the loss of the whole batch, (); it fills the gradients on the way."""


EXPLODED = 1e3
"""A loss this many times the first step's has diverged, though it is still a number."""


class DivergedError(UserError):
    """The loss is NaN or infinite, or exploded; the weights are those before the step.

    Attributes:
        worst: loss and sigma of this worker's worst example.
    """

    def __init__(self, message: str, loss: float, sigma: float) -> None:
        super().__init__(message)
        self.worst = (loss if math.isfinite(loss) else math.inf, sigma)

    def report(self, group: Group) -> str:
        """The message, with the noise level of the worst example over all workers; each must call it."""
        loss, sigma = max(gathered(self.worst, group))
        return f"{self} The worst example has noise sigma {sigma:.4g} (loss {loss:.4g})."


@dataclass(frozen=True)
class Event:
    """An optimiser step that is done. `state` is the live one: copy it before asking for the next event.

    `row` is the loss curve's new row, on the steps that have one; `seconds` and `images_per_second` (over all
    workers) are counted from the row before.
    """

    step: int
    images: int
    loss: float
    seconds: float
    images_per_second: float
    row: CurvePoint | None
    state: TrainingState


def train(
    task: Task,
    images: np.ndarray,
    *,
    state: TrainingState | None = None,
    group: Group = None,
    device: torch.device | str = "cpu",
) -> Iterator[Event]:
    """Train to the task's last step, alone or as one worker of a torch.distributed group.

    Args:
        images: (N, C, H, W) uint8, the same on every worker; N at least the batch size.
        state: where to resume; by default step 0. It must be on `device`, and be the same on every worker.
        group: the process group; None is the default group where one is initialised.

    Yields:
        An event for each step; its loss is the mean over the whole batch, the same on every worker.

    Raises:
        DivergedError: the loss is NaN or infinite, or exploded.
        UserError: the micro-batches cannot be divided among the workers, or the images do not fill a batch.
    """
    device = torch.device(device)
    state = fresh(task, device) if state is None else state
    parts = own_parts(task, group)
    clock = _Clock(state)
    with arithmetic(task, device):
        backward = (_bitwise if task.determinism == "bitwise" else _fast)(state, group)
        while state.step < task.steps:
            batch = micro_batches(task, images, state.step, parts, device)
            loss = float(backward(batch))
            if _diverged(loss, state):
                raise _divergence(loss, batch, state)
            row = state.advance(loss)
            yield Event(state.step, state.images, loss, *clock.read(row), row, state)


def own_parts(task: Task, group: Group) -> range:
    """The micro-batches of this worker: a block, so that the order of ranks is that of micro-batches."""
    rank, workers = rank_and_workers(group)
    each, rest = divmod(task.micro_batches, workers)
    if rest:
        raise UserError(
            f"train.micro_batches ({task.micro_batches}) is not divisible by compute.workers ({workers}): "
            "change one of them in params.yaml."
        )
    return range(rank * each, (rank + 1) * each)


@contextlib.contextmanager
def arithmetic(task: Task, device: torch.device) -> Iterator[None]:
    """For "bitwise", kernels whose bits follow from the input: one CPU thread, deterministic ones on CUDA.

    On CUDA, torch only warns of an operation for which it has no deterministic kernel: equal bits are
    expected there, but were not checked.
    """
    if task.determinism != "bitwise":
        yield
        return
    threads, strict = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    torch.set_num_threads(1)
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if device.type == "cuda":
            torch.use_deterministic_algorithms(strict > 0, warn_only=strict == 1)


def _diverged(loss: float, state: TrainingState) -> bool:
    return not math.isfinite(loss) or bool(state.losses and loss > EXPLODED * state.losses[0])


@torch.no_grad()
def _divergence(loss: float, batch: list[MicroBatch], state: TrainingState) -> DivergedError:
    score = _score(state.network, state.task)
    losses = torch.cat([_losses(score, part, state.task) for part in batch])
    worst = int(losses.nan_to_num(math.inf, math.inf).argmax())
    sigma = torch.cat([part.sigma for part in batch])[worst]
    return DivergedError(
        f"the loss is {loss} at step {state.step + 1}: lower the recipe's optimizer.lr ({state.task.optimizer.lr}).",
        float(losses[worst]),
        float(sigma),
    )


def _bitwise(state: TrainingState, group: Group) -> Backward:
    """One gradient for each micro-batch, summed in their order: the same bits on any number of workers.

    Checked on the CPU; on CUDA, on GPUs of one kind, it is expected but was not checked.
    """
    parameters = [p for p in state.network.parameters() if p.requires_grad]
    sizes = [p.numel() for p in parameters]
    score = _score(state.network, state.task)

    def flat_gradient(part: MicroBatch) -> Tensor:
        loss = _losses(score, part, state.task).sum() / state.task.batch_size
        gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
        return torch.cat([*(g.flatten() for g in gradients), loss.detach().view(1)])

    def backward(batch: list[MicroBatch]) -> Tensor:
        total = sum_in_order([flat_gradient(part) for part in batch], group)
        for parameter, gradient in zip(parameters, torch.split(total[:-1], sizes), strict=True):
            parameter.grad = gradient.view_as(parameter)
        return total[-1]

    return backward


def _fast(state: TrainingState, group: Group) -> Backward:
    """Plain DistributedDataParallel over the same examples and noise: equal up to rounding."""
    _, workers = rank_and_workers(group)
    network = state.network
    if workers > 1:
        network = DistributedDataParallel(network, process_group=group, forward_sync_buffers=False)
    score = _score(network, state.task)

    def backward(batch: list[MicroBatch]) -> Tensor:
        own = MicroBatch(*(torch.cat([getattr(p, key) for p in batch]) for key in ("x", "sigma", "noise")))
        loss = _losses(score, own, state.task).mean()
        torch.autograd.backward(loss)
        total = loss.detach() / workers
        if workers > 1:
            dist.all_reduce(total, group=group)
        return total

    return backward


def _score(network: torch.nn.Module, task: Task) -> Score:
    return evaluated(network, precision=task.precision, compile=task.compile)


def _losses(score: Score, part: MicroBatch, task: Task) -> Tensor:
    """The weighted loss of each example, (B,)."""
    return task.loss.weight(part.sigma) * denoising_score_matching(score, part.x, part.sigma, part.noise)


class _Clock:
    """Time and training speed since the last row of the loss curve."""

    def __init__(self, state: TrainingState) -> None:
        self.state, self.images, self.start = state, state.images, time.perf_counter()

    def read(self, row: CurvePoint | None) -> tuple[float, float]:
        """(seconds, images a second); a row resets the count."""
        now = time.perf_counter()
        seconds, images = now - self.start, self.state.images - self.images
        if row is not None:
            self.images, self.start = self.state.images, now
        return seconds, images / seconds
