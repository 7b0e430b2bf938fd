"""Samples at scale: fixed shards, computed in this process or over the cluster, with the same bits."""

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.cluster import connect
from pipeline.cluster.device import UseGpu, has_gpu
from pipeline.generate.backends import Work, in_threads, over_ray
from pipeline.generate.draw import Shape
from pipeline.generate.shards import Disk, Memory, Store
from pipeline.ncsn.prior import Law
from pipeline.ncsn.sampler import Sampler
from pipeline.ncsn.score import Score

logger = logging.getLogger(__name__)

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
    """Spent on them, by runs that were killed too."""
    folder: Path | None = None
    """Where the shards lie and the arrays above are mapped from; None: in memory."""

    def discard(self) -> None:
        """Delete the working folder, once the samples were copied to where they are wanted."""
        if self.folder:
            shutil.rmtree(self.folder)


class LogProgress:
    """Logs samples done, speed and time left, at most once in five seconds and at the end."""

    def __init__(self, found: int = 0) -> None:
        """
        Args:
            found: samples that were done before.
        """
        self._last, self._found = -LOG_EVERY_S, found

    def __call__(self, done: int, total: int, seconds: float) -> None:
        if done < total and seconds - self._last < LOG_EVERY_S:
            return
        self._last = seconds
        speed = (done - self._found) / seconds
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
    storage: Path | None = None,
    law: Law | None = None,
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
        storage: a folder in which a working folder, named by all that the bits depend on, takes each shard
            as it is done. A later call finds the shards of one that was killed there, verifies them and
            makes the others; `Samples.discard` deletes it. None: shards are kept in memory.
        law: the data's, for a sampler that starts there.

    Raises:
        UserError: the dynamics diverged.
        TypeError: `storage` with a score that is no torch Module, which cannot be told from another.
    """
    device = "cuda" if use_gpu else "cpu"
    work = Work(network, sampler, shape, shard_size, precision, compile, seed, device, law)
    folder = storage / f"samples-{work.fingerprint()}" if storage else None
    store: Store = Disk(folder) if folder else Memory()
    shards = range(-(-num_samples // shard_size))
    _make(work, shards, store, num_samples, remote, workers, progress)
    raw, denoised = (
        store.whole(name, num_samples, (getattr(store.get(shard), name) for shard in shards))
        for name in ("raw", "denoised")
    )
    first = store.get(0)
    return Samples(raw, denoised, first.levels[:, :num_samples], first.nfe, store.seconds, folder)


def placed(
    network: Score,
    sampler: Sampler,
    *,
    workers: int,
    cpus_per_worker: int,
    use_gpu: UseGpu,
    **settings: Any,
) -> Samples:
    """`generate` where there is most to compute with: a cluster, this machine's GPUs, or this process.

    Args:
        workers, cpus_per_worker, use_gpu: see `cluster.connect`.
        settings: the rest of `generate`.

    Raises:
        UserError: what `generate` or `cluster.connect` raises.
    """
    with place(workers=workers, cpus_per_worker=cpus_per_worker, use_gpu=use_gpu) as where:
        return generate(network, sampler, **where, **settings)


@contextlib.contextmanager
def place(*, workers: int, cpus_per_worker: int, use_gpu: UseGpu) -> Iterator[dict[str, Any]]:
    """Where there is most to compute with, as arguments of `generate` for the block; see `placed`."""
    if not connect.is_remote() and torch.cuda.device_count() <= 1:
        yield {"remote": False, "workers": workers * cpus_per_worker, "use_gpu": has_gpu(use_gpu)}
        return
    with connect.connect(workers=workers, cpus_per_worker=cpus_per_worker, use_gpu=use_gpu) as gpus:
        yield {"remote": True, "use_gpu": gpus > 0}


def _make(
    work: Work,
    shards: range,
    store: Store,
    num_samples: int,
    remote: bool,
    workers: int,
    progress: Progress | None,
) -> None:
    """Put all shards into the store that it does not have yet."""
    found = store.found(shards)
    missing = [shard for shard in shards if shard not in found]
    done = min(len(found) * work.shard_size, num_samples)
    if found:
        logger.info("%d of %d samples were done before", done, num_samples)
    before, tell = store.seconds, progress or LogProgress(done)
    making = over_ray(work, missing, store) if remote else in_threads(work, missing, store, workers)
    for count, _ in enumerate(making, len(found) + 1):
        tell(min(count * work.shard_size, num_samples), num_samples, store.seconds - before)
