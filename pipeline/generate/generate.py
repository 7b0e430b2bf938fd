"""Samples at scale: fixed shards on threads of this process or over Ray's tasks, with the same bits."""

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from pipeline.cluster import connect
from pipeline.cluster.connect import UseGpu
from pipeline.generate.draw import Shape, Shard, draw, single_threaded
from pipeline.generate.shards import Disk, Memory, Store, fingerprint
from pipeline.ncsn.execution import evaluated
from pipeline.ncsn.prior import Law
from pipeline.ncsn.sampler import Sampler
from pipeline.ncsn.score import Score
from pipeline.training.lock import Lock

logger = logging.getLogger(__name__)

LOG_EVERY_S = 5.0
WATCHED = 8
"""Samples kept on their way, the first ones."""
AHEAD = 2
"""Shards in flight over Ray for each CPU: what is done waits in Ray's memory until it is stored."""

Progress = Callable[[int, int, float], None]
"""Called with the samples done, their number in all, and the seconds so far."""


@dataclass(frozen=True)
class Samples:
    """Samples of a network, and what they cost."""

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
    lock: Lock | None = field(default=None, compare=False)
    """Of the folder, for as long as the samples are in use."""

    def discard(self) -> None:
        """Delete the working folder, once the samples were copied to where they are wanted."""
        if self.folder:
            shutil.rmtree(self.folder)
        if self.lock:
            self.lock.close()


@dataclass(frozen=True)
class Work:
    """All that the bits of every shard depend on, apart from its number."""

    network: Score
    sampler: Sampler
    shape: Shape
    shard_size: int
    precision: str
    compile: bool
    seed: int
    device: str
    law: Law | None

    def shard(self, number: int) -> Shard:
        """Draw a shard, on one thread."""
        single_threaded()
        if isinstance(self.network, torch.nn.Module):
            self.network.to(self.device)
        first = number * self.shard_size
        return draw(
            evaluated(self.network, precision=self.precision, compile=self.compile),
            self.sampler,
            seed=self.seed,
            indices=range(first, first + self.shard_size),
            shape=self.shape,
            device=self.device,
            watched=0 if number else WATCHED,
            law=self.law,
        )

    def fingerprint(self) -> str:
        """SHA-256 that names the shards on disk."""
        if not isinstance(self.network, torch.nn.Module):
            raise TypeError("storage needs a network whose weights distinguish it from another")
        rest = {key: value for key, value in vars(self).items() if key not in ("network", "sampler", "law")}
        start = {"law": self.law.digest()} if self.law and self.sampler.start else {}
        return fingerprint(self.network, {**rest, "sampler": asdict(self.sampler), **start})


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
    workers: int = 1,
    cpus_per_worker: int = 1,
    use_gpu: UseGpu = False,
    progress: Progress | None = None,
    storage: Path | None = None,
    law: Law | None = None,
) -> Samples:
    """Draw samples 0 ... num_samples - 1 with and without the last denoising, where `connect.place` computes.

    Sample k belongs to shard k // shard_size, which is always computed whole, in one batch, on one thread:
    its bits depend on the network, the sampler, `seed`, `shard_size`, `precision`, `compile` and the kind of
    device, on nothing else. A `shard_size` above `num_samples` counts as `num_samples`.

    Args:
        network: the score, called with sigma; on the CPU, it is moved where it is needed.
        shape: (C, H, W) of a sample.
        precision, compile: how the network is evaluated, see `pipeline.ncsn.execution.evaluated`.
        workers, cpus_per_worker, use_gpu: see `cluster.connect`; as many shards at once as they make CPUs.
        progress: called after each shard; by default it is logged.
        storage: a folder in which a working folder, named by all that the bits depend on, takes each shard
            as it is done. A later call finds the shards of one that was killed there, verifies them and
            makes the others; `Samples.discard` deletes it. None: shards are kept in memory.
        law: the data's, for a sampler that starts there.

    Raises:
        UserError: the dynamics diverged, another process draws the same samples in `storage`,
            or what `cluster.connect` raises.
        TypeError: `storage` with a score that is no torch Module, which has no weights to be named by.
    """
    with connect.place(workers=workers, cpus_per_worker=cpus_per_worker, use_gpu=use_gpu) as device:
        shard_size = min(shard_size, num_samples)
        work = Work(network, sampler, shape, shard_size, precision, compile, seed, device, law)
        folder = storage / f"samples-{work.fingerprint()}" if storage else None
        store: Disk | Memory = Disk(folder) if folder else Memory()
        with store.kept():
            shards = range(-(-num_samples // shard_size))
            found = store.found(shards)
            done, before = min(len(found) * shard_size, num_samples), store.seconds
            if found:
                logger.info("%d of %d samples were done before", done, num_samples)
            tell, missing = progress or LogProgress(done), [shard for shard in shards if shard not in found]
            spread = _over_ray if connect.is_connected() else partial(_threads, at_once=workers * cpus_per_worker)
            for count, _ in enumerate(spread(work, missing, store), len(found) + 1):
                tell(min(count * shard_size, num_samples), num_samples, store.seconds - before)
    raw, denoised = (
        store.whole(name, num_samples, (getattr(store.get(shard), name) for shard in shards))
        for name in ("raw", "denoised")
    )
    first = store.get(0)
    return Samples(raw, denoised, first.levels[:, :num_samples], first.nfe, store.seconds, folder, store.lock)


def _threads(work: Work, shards: Sequence[int], store: Store, at_once: int) -> Iterator[None]:
    """Shards next to each other in threads, which start at once; torch computes without Python's lock."""
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(1 if work.device == "cuda" else at_once) as pool:
        try:
            yield from pool.map(lambda shard: store.put(shard, work.shard(shard)), shards)
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)


def _over_ray(work: Work, shards: Sequence[int], store: Store) -> Iterator[None]:
    """One task for each shard, a few in flight; what they share travels once to each node."""
    # After a failure those in flight end unheard: `ray.cancel`, at the moment one ends, ends this process.
    import ray

    task = ray.remote(Work.shard).options(num_cpus=1, num_gpus=1 if work.device == "cuda" else 0)
    shared, left = ray.put(work), iter(shards)
    pending: dict[ray.ObjectRef[Shard], int] = {}
    at_once = AHEAD * int(connect.cluster_resources()["CPU"])
    try:
        while True:
            for shard in islice(left, at_once - len(pending)):
                pending[task.remote(shared, shard)] = shard
            if not pending:
                return
            (ready,), _ = ray.wait(list(pending), num_returns=1)
            shard = pending.pop(ready)
            store.put(shard, ray.get(ready))
            yield
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error


class LogProgress:
    """Log of samples done, speed and time left, at most once in five seconds and at the end."""

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
