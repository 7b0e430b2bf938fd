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

from pipeline.ncsn import kinds
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.execution import evaluated
from pipeline.ncsn.losses import Loss, denoising_score_matching
from pipeline.ncsn.score import Score
from pipeline.training.allreduce import Group, gathered, place, sum_in_order
from pipeline.training.batches import Draw, microshards
from pipeline.training.checkpoints import State, fresh
from pipeline.training.history import Row
from pipeline.training.task import Task

Backward = Callable[[list[Draw]], Tensor]
"""From a worker's draws to the loss of the global batch, (); it fills the gradients on the way."""


EXPLODED = 1e3
"""A loss so many times that of the history's first row has diverged, though it is still a number."""


class DivergedError(UserError):
    """The loss is no number, or exploded; the weights are those before the step.

    `loss` and `sigma` are this worker's worst example's.
    """

    def __init__(self, message: str, loss: float, sigma: float) -> None:
        super().__init__(message)
        self.worst = (loss if math.isfinite(loss) else math.inf, sigma)

    def found(self, group: Group) -> str:
        """The message, with the noise level of the worst example over all workers; each must call it."""
        loss, sigma = max(gathered(self.worst, group))
        return f"{self} The worst example has noise sigma {sigma:.4g} (loss {loss:.4g})."


@dataclass(frozen=True)
class Event:
    """One optimiser step done. `state` is the live one: copy or save it before asking for the next event.

    `row` is the history's new row, on the steps that have one; `seconds` and `images_per_second` (over all
    workers) are counted from the row before.
    """

    step: int
    images: int
    loss: float
    seconds: float
    images_per_second: float
    row: Row | None
    state: State


def train(
    task: Task,
    images: np.ndarray,
    *,
    state: State | None = None,
    group: Group = None,
    device: torch.device | str = "cpu",
) -> Iterator[Event]:
    """Train to the task's last step, alone or as one worker of a torch.distributed group.

    Args:
        images: (N, C, H, W) uint8, the same on every worker; N at least the batch size.
        state: where to go on; by default step 0. It must lie on `device`, and be the same on every worker.
        group: the process group; None is the default group where one is initialised.

    Yields:
        An event for each step; its loss is the mean over the global batch, on every worker the same.

    Raises:
        DivergedError: the loss is NaN or infinite, or exploded.
        UserError: the workers do not divide the microshards, or the images do not fill a batch.
    """
    device = torch.device(device)
    state = fresh(task, device) if state is None else state
    shards = own_shards(task, group)
    clock = _Clock(state)
    with arithmetic(task, device):
        backward = (_elastic if task.determinism == "elastic" else _fast)(state, group)
        while state.step < task.steps:
            draws = microshards(task, images, state.step, shards, device)
            loss = float(backward(draws))
            if _diverged(loss, state):
                raise _diverging(loss, draws, state)
            _advance(state)
            row = state.record(loss)
            yield Event(state.step, state.images, loss, *clock.read(row), row, state)


def own_shards(task: Task, group: Group) -> range:
    """The microshards of this worker: a block, so that rank order is microshard order."""
    rank, workers = place(group)
    each, rest = divmod(task.microshards, workers)
    if rest:
        raise UserError(
            f"train.microshards ({task.microshards}) is not divisible by compute.workers ({workers}): "
            "change one of them in params.yaml."
        )
    return range(rank * each, (rank + 1) * each)


@contextlib.contextmanager
def arithmetic(task: Task, device: torch.device) -> Iterator[None]:
    """In elastic mode, kernels whose bits follow from the input: one CPU thread, deterministic on CUDA.

    On CUDA, torch only warns of an operation it has no deterministic kernel for: equal bits are expected
    there, but were not checked.
    """
    if task.determinism != "elastic":
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


def _diverged(loss: float, state: State) -> bool:
    return not math.isfinite(loss) or bool(state.history and loss > EXPLODED * state.history[0].loss)


@torch.no_grad()
def _diverging(loss: float, draws: list[Draw], state: State) -> DivergedError:
    losses = torch.cat([_loss(_score(state.network, state.task), draw, state.task) for draw in draws])
    worst = int(losses.nan_to_num(math.inf, math.inf).argmax())
    sigma = torch.cat([draw.sigma for draw in draws])[worst]
    return DivergedError(
        f"the loss is {loss} at step {state.step + 1}: lower the recipe's lr ({state.task.lr}).",
        float(losses[worst]),
        float(sigma),
    )


def _advance(state: State) -> None:
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    state.ema.update(state.network)


def _elastic(state: State, group: Group) -> Backward:
    """One gradient for each microshard, summed in the microshards' order: the same bits on any workers.

    Checked on the CPU; on CUDA, on GPUs of one kind, it is expected but was not checked.
    """
    parameters = [p for p in state.network.parameters() if p.requires_grad]
    sizes = [p.numel() for p in parameters]
    score = _score(state.network, state.task)

    def flat_gradient(draw: Draw) -> Tensor:
        loss = _loss(score, draw, state.task).sum() / state.task.batch_size
        gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
        return torch.cat([*(g.flatten() for g in gradients), loss.detach().view(1)])

    def backward(draws: list[Draw]) -> Tensor:
        total = sum_in_order([flat_gradient(draw) for draw in draws], group)
        for parameter, gradient in zip(parameters, torch.split(total[:-1], sizes), strict=True):
            parameter.grad = gradient.view_as(parameter)
        return total[-1]

    return backward


def _fast(state: State, group: Group) -> Backward:
    """Plain DistributedDataParallel over the same examples and noise: equal but for rounding."""
    _, workers = place(group)
    network = state.network
    if workers > 1:
        network = DistributedDataParallel(network, process_group=group, forward_sync_buffers=False)
    score = _score(network, state.task)

    def backward(draws: list[Draw]) -> Tensor:
        whole = Draw(*(torch.cat([getattr(d, key) for d in draws]) for key in ("x", "sigma", "noise")))
        loss = _loss(score, whole, state.task).mean()
        torch.autograd.backward(loss)
        total = loss.detach() / workers
        if workers > 1:
            dist.all_reduce(total, group=group)
        return total

    return backward


def _score(network: torch.nn.Module, task: Task) -> Score:
    return evaluated(network, precision=task.precision, compile=task.compile)


def _loss(score: Score, draw: Draw, task: Task) -> Tensor:
    loss: Loss = kinds.make("losses", task.loss)
    return loss.weight(draw.sigma) * denoising_score_matching(score, draw.x, draw.sigma, draw.noise)


class _Clock:
    """Time and training speed since the last row of the history."""

    def __init__(self, state: State) -> None:
        self.state, self.images, self.start = state, state.images, time.perf_counter()

    def read(self, row: Row | None) -> tuple[float, float]:
        """(seconds, images a second); a row starts the count anew."""
        now = time.perf_counter()
        seconds, images = now - self.start, self.state.images - self.images
        if row is not None:
            self.images, self.start = self.state.images, now
        return seconds, images / seconds
