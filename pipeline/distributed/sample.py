"""Samples at scale: fixed shards, computed in this process or over the cluster, with the same bits."""

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import numpy as np
import ray
import torch

from pipeline.distributed.shards import Drawn, Shape, draw, single_threaded
from pipeline.ncsn.execution import evaluated
from pipeline.ncsn.score import Score
from pipeline.samplers.settings import Sampler

logger = logging.getLogger(__name__)

WATCHED = 8
"""Samples kept on their way, the first ones."""

LOG_EVERY_S = 5.0

Progress = Callable[[int, int, float], None]
"""Called with the samples done, their number in all, and the seconds so far."""


@dataclass(frozen=True)
class Samples:
    """What `generate` made."""

    raw: np.ndarray
    """uint8 (N, C, H, W), without the last denoising step."""
    denoised: np.ndarray
    """uint8 (N, C, H, W), with it."""
    intermediate: np.ndarray
    """uint8 (levels, n, C, H, W): the first n samples after each of up to 12 levels."""
    nfe: dict[str, int]
    """Network evaluations per sample, counted: `raw` and `denoised`."""
    seconds: float


class LogProgress:
    """Logs samples done, speed and time left, at most once in five seconds and at the end."""

    def __init__(self) -> None:
        self._last = -LOG_EVERY_S

    def __call__(self, done: int, total: int, seconds: float) -> None:
        if done < total and seconds - self._last < LOG_EVERY_S:
            return
        self._last = seconds
        speed = done / seconds
        left = (total - done) / speed
        logger.info("%d of %d samples, %.1f a second, about %.0f s left", done, total, speed, left)


def generate(
    network: Score,
    sampler: Sampler,
    *,
    shape: Shape,
    num_samples: int,
    shard_size: int,
    precision: str,
    compile: bool,
    seed: int,
    remote: bool,
    workers: int = 1,
    use_gpu: bool = False,
    progress: Progress | None = None,
) -> Samples:
    """Draw samples 0 ... num_samples - 1 with and without the last denoising.

    Sample k belongs to shard k // shard_size, which is always computed whole, in one batch, on one thread:
    its bits depend on the network, the sampler, `seed`, `shard_size`, `precision`, `compile` and the kind of
    device, on nothing else.

    Args:
        network: the score, called with sigma; on the CPU, it is moved where it is needed.
        shape: (C, H, W) of a sample.
        precision, compile: how the network is evaluated, see `pipeline.ncsn.execution.evaluated`.
        remote: over the tasks of the Ray that is connected; else in this process.
        workers: shards side by side in this process; with Ray the cluster decides.
        use_gpu: a GPU for each shard.
        progress: told after each shard; by default it is logged.

    Raises:
        UserError: the dynamics diverged.
    """
    begin, tell = time.perf_counter(), progress or LogProgress()
    shards = range(-(-num_samples // shard_size))
    device = "cuda" if use_gpu else "cpu"
    work = _Work(network, sampler, shape, shard_size, precision, compile, seed, device)
    finished = _over_ray(work, shards) if remote else _in_threads(work, shards, workers)
    drawn: dict[int, Drawn] = {}
    for shard, result in finished:
        drawn[shard] = result
        tell(min(len(drawn) * shard_size, num_samples), num_samples, time.perf_counter() - begin)
    return _joined([drawn[shard] for shard in shards], num_samples, time.perf_counter() - begin)


@dataclass(frozen=True)
class _Work:
    """All shards' common part."""

    network: Score
    sampler: Sampler
    shape: Shape
    shard_size: int
    precision: str
    compile: bool
    seed: int
    device: str

    def shard(self, number: int) -> Drawn:
        single_threaded()
        first = number * self.shard_size
        return draw(
            evaluated(self.network, precision=self.precision, compile=self.compile),
            self.sampler,
            seed=self.seed,
            indices=range(first, first + self.shard_size),
            shape=self.shape,
            device=self.device,
            watched=0 if number else WATCHED,
        )

    def placed(self) -> "_Work":
        if isinstance(self.network, torch.nn.Module):
            self.network.to(self.device)
        return self


def _in_threads(work: _Work, shards: range, workers: int) -> Iterator[tuple[int, Drawn]]:
    """Shards side by side in threads, which start at once; torch computes without Python's lock."""
    work, threads = work.placed(), torch.get_num_threads()
    with ThreadPoolExecutor(1 if work.device == "cuda" else workers) as pool:
        futures = {pool.submit(work.shard, shard): shard for shard in shards}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)


def _over_ray(work: _Work, shards: range) -> Iterator[tuple[int, Drawn]]:
    """One task for each shard; what they share travels once to each node."""
    task = ray.remote(_task).options(num_cpus=1, num_gpus=1 if work.device == "cuda" else 0)
    shared = ray.put(work)
    pending = {task.remote(shared, shard): shard for shard in shards}
    try:
        while pending:
            (ready,), _ = ray.wait(list(pending), num_returns=1)
            yield pending.pop(ready), ray.get(ready)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    finally:
        for reference in pending:
            ray.cancel(reference)


def _task(work: _Work, shard: int) -> Drawn:
    return work.placed().shard(shard)


def _joined(drawn: list[Drawn], num_samples: int, seconds: float) -> Samples:
    return Samples(
        raw=np.concatenate([part.raw for part in drawn])[:num_samples],
        denoised=np.concatenate([part.denoised for part in drawn])[:num_samples],
        intermediate=drawn[0].levels[:, :num_samples],
        nfe=drawn[0].nfe,
        seconds=seconds,
    )
