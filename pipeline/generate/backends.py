"""The shards of one drawing of samples, spread over threads or over the tasks of a cluster."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from itertools import islice

import ray
import torch

from pipeline.generate.draw import Drawn, Shape, draw, single_threaded
from pipeline.generate.shards import Store, fingerprint
from pipeline.ncsn.execution import evaluated
from pipeline.ncsn.prior import Law
from pipeline.ncsn.sampler import Sampler
from pipeline.ncsn.score import Score

WATCHED = 8
"""Samples kept on their way, the first ones."""

AHEAD = 2
"""Shards in flight over Ray for each CPU: what is done waits in Ray's memory until it is put away."""


@dataclass(frozen=True)
class Work:
    """All shards' common part."""

    network: Score
    sampler: Sampler
    shape: Shape
    shard_size: int
    precision: str
    compile: bool
    seed: int
    device: str
    law: Law | None

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
            law=self.law,
        )

    def fingerprint(self) -> str:
        """Of all that the bits of a shard depend on."""
        if not isinstance(self.network, torch.nn.Module):
            raise TypeError("storage needs a network whose weights tell it from another one")
        rest = {key: value for key, value in vars(self).items() if key not in ("network", "sampler", "law")}
        start = {"law": self.law.digest()} if self.law and self.sampler.start else {}
        return fingerprint(self.network, {**rest, "sampler": asdict(self.sampler), **start})

    def placed(self) -> "Work":
        if isinstance(self.network, torch.nn.Module):
            self.network.to(self.device)
        return self


def in_threads(work: Work, shards: Sequence[int], store: Store, workers: int) -> Iterator[int]:
    """Shards side by side in threads, which start at once; torch computes without Python's lock."""
    work, threads = work.placed(), torch.get_num_threads()

    def make(shard: int) -> int:
        store.put(shard, work.shard(shard))
        return shard

    with ThreadPoolExecutor(1 if work.device == "cuda" else workers) as pool:
        try:
            for future in as_completed([pool.submit(make, shard) for shard in shards]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)


def over_ray(work: Work, shards: Sequence[int], store: Store) -> Iterator[int]:
    """One task for each shard, a few in flight; what they share travels once to each node.

    After a failure those in flight end unheard: `ray.cancel`, at the moment one ends, ends this process.
    """
    task = ray.remote(_task).options(num_cpus=1, num_gpus=1 if work.device == "cuda" else 0)
    shared, left = ray.put(work), iter(shards)
    pending: dict[ray.ObjectRef[Drawn], int] = {}
    at_once = AHEAD * int(ray.cluster_resources()["CPU"])  # type: ignore[no-untyped-call]
    try:
        while True:
            for shard in islice(left, at_once - len(pending)):
                pending[task.remote(shared, shard)] = shard
            if not pending:
                return
            (ready,), _ = ray.wait(list(pending), num_returns=1)
            shard = pending.pop(ready)
            store.put(shard, ray.get(ready))
            yield shard
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error


def _task(work: Work, shard: int) -> Drawn:
    return work.placed().shard(shard)
