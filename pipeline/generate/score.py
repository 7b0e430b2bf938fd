"""Scores of images at scale: features by fixed shards, over the Ray that is connected, with the same bits.

A shard's numbers follow from its images and the kind of device alone, and shards are put together in their
order: so they are the same on one worker and on many, and those of one call on all images. Of more than a
shard, each is put on disk as it is done, where a run that was killed finds it again.
"""

import contextlib
import hashlib
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import program
from pipeline.cluster import connect
from pipeline.cluster.connect import UseGpu
from pipeline.generate.shards import intact
from pipeline.memmap import release, stacked
from pipeline.metrics.features import FeatureSpace, Images
from pipeline.metrics.fid import SHARD, Moments, merged, part
from pipeline.training import checksums
from pipeline.training.lock import Lock, held

Work = Callable[[FeatureSpace, Images], Any]

AHEAD = 2
"""Shards in flight over Ray for each CPU, or each GPU where those compute."""
PART = "part.npy"


@dataclass(frozen=True)
class Scorer:
    """A feature space that works shard by shard on its device, over a connected Ray or in this process.

    It holds a few shards in memory, however many the images are; what it returns is mapped from a file
    that goes with the array, at the latest when `discard` was called.
    """

    evaluator: FeatureSpace
    storage: Path
    """A folder for those files, and for the shards that are done."""
    _places: dict[Path, Lock] = field(default_factory=dict)
    """Folders of shards with their locks."""

    @property
    def name(self) -> str:
        """What a table prints as the evaluator."""
        return self.evaluator.name

    def features(self, images: Images) -> NDArray[np.float32]:
        """Images uint8 (N, C, H, W) -> (N, D), the bits of the evaluator's own."""
        return self._stacked(images, _features)

    def both(self, images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The features (N, D) and the class probabilities (N, K), in one pass."""
        whole, here = self._stacked(images, _both), self.evaluator.on("cpu")  # the GPUs may be elsewhere
        dim = here.features(images[:1]).shape[1]
        return whole[:, :dim], whole[:, dim:]

    def moments(self, images: Images) -> Moments:
        """The moments of the features, bit for bit `fid.moments(features(images))`; features are not kept.

        Raises:
            UserError: fewer than two images.
        """
        return merged(self._shards(images, _starts(images), _moments))

    def discard(self) -> None:
        """Delete the shards on disk, once the numbers that were wanted of them are in place."""
        for folder in self._places:
            shutil.rmtree(folder, ignore_errors=True)
        self.release()

    def release(self) -> None:
        """Leave the shards on disk to whoever goes on with them."""
        for lock in self._places.values():
            lock.close()
        self._places.clear()

    def _stacked(self, images: Images, work: Work) -> NDArray[np.float32]:
        self.storage.mkdir(parents=True, exist_ok=True)
        if len(starts := _starts(images)) > 1:
            return self._resumed(images, starts, work)
        with tempfile.TemporaryDirectory(dir=self.storage) as folder:
            return stacked(Path(folder) / "whole.npy", len(images), self._shards(images, starts, work))

    def _resumed(self, images: Images, starts: Sequence[int], work: Work) -> NDArray[np.float32]:
        """Make the shards that are not on disk, then read all of them in their order."""
        code = program.version("pipeline.metrics.fid", *program.modules(self.evaluator))
        whose = f"{self.name} on {self.evaluator.device} by {code}"
        place = self.storage / f"scores-{_fingerprint(images, whose, work)}"
        self._hold(place)
        shards = {start: place / f"shard_{start:08d}" for start in starts}
        missing = [start for start in starts if not intact(shards[start])]
        for start, result in zip(missing, self._shards(images, missing, work), strict=True):
            with checksums.writing(shards[start]) as folder:
                np.save(folder / PART, result)
        parts = (np.load(shard / PART, allow_pickle=False) for shard in shards.values())
        whole = place / "whole.npy"
        whole.unlink(missing_ok=True)  # an earlier call's array may be mapped from it
        return stacked(whole, len(images), parts)

    def _hold(self, place: Path) -> None:
        """Keep the folder for this process, until `discard`."""
        place.mkdir(exist_ok=True)
        if place not in self._places:
            self._places[place] = held("evaluator", "the scores", place)

    def _shards(self, images: Images, starts: Sequence[int], work: Work) -> Iterator[Any]:
        """The work's result for each shard, in order."""
        shards = (images[start : start + SHARD] for start in starts)
        spread = _over_ray if connect.is_connected() else _here
        for result in spread(self.evaluator, shards, work):
            release(images)
            yield result


@contextlib.contextmanager
def scorer(
    evaluator: FeatureSpace, storage: Path, *, workers: int, cpus_per_worker: int, use_gpu: UseGpu
) -> Iterator[Any]:
    """A `Scorer` instead of the evaluator, for the block, where `connect.place` computes.

    Args:
        workers, cpus_per_worker, use_gpu: see `cluster.connect`.

    Raises:
        UserError: another process scores the same images in `storage`,
            the cluster does not answer, has too few CPUs, or there are not the GPUs asked for.
    """
    with connect.place(workers=workers, cpus_per_worker=cpus_per_worker, use_gpu=use_gpu) as device:
        made = Scorer(evaluator.on(device), storage)
        try:
            yield made
            made.discard()
        finally:
            made.release()


def _starts(images: Images) -> range:
    return range(0, max(len(images), 1), SHARD)  # of no images too: the evaluator refuses them


def _fingerprint(images: Images, evaluator: str, work: Work) -> str:
    """Of all that the numbers follow from, 64 hexadecimal digits."""
    digest = hashlib.sha256(f"{evaluator} {work.__name__} {images.dtype} {images.shape[1:]}".encode())
    for start in _starts(images):
        digest.update(np.ascontiguousarray(images[start : start + SHARD]).data)
        release(images)
    return digest.hexdigest()


def _features(evaluator: FeatureSpace, images: Images) -> NDArray[np.float32]:
    return evaluator.features(images)


def _both(evaluator: FeatureSpace, images: Images) -> NDArray[np.float32]:
    return np.concatenate(evaluator.both(images), axis=1)


def _moments(evaluator: FeatureSpace, images: Images) -> Moments:
    return part(evaluator.features(images))


def _here(evaluator: FeatureSpace, shards: Iterator[Images], work: Work) -> Iterator[Any]:
    return (work(evaluator, shard) for shard in shards)


def _over_ray(evaluator: FeatureSpace, shards: Iterator[Images], work: Work) -> Iterator[Any]:
    # After a failure those in flight end unheard: `ray.cancel`, at the moment one ends, ends this process.
    import ray

    gpu, have = evaluator.device == "cuda", connect.cluster_resources()
    at_once = AHEAD * int(have["GPU" if gpu else "CPU"])
    task = ray.remote(work).options(num_cpus=1, num_gpus=1 if gpu else 0)
    shared, pending = ray.put(evaluator), deque[Any]()
    try:
        while True:
            pending.extend(task.remote(shared, np.array(s)) for s in islice(shards, at_once - len(pending)))
            if not pending:
                return
            yield ray.get(pending[0])
            pending.popleft()
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
