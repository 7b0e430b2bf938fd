"""Store of finished shards: in memory, or on disk, where a run that was killed finds them again.

On disk a shard is believed only when every byte of it has the SHA-256 that was written last.
"""

import contextlib
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch.nn import Module

from pipeline import program
from pipeline.files import read_json, write_json
from pipeline.generate.draw import Shard
from pipeline.memmap import stacked
from pipeline.ncsn.errors import UserError
from pipeline.training import checksums
from pipeline.training.lock import held

logger = logging.getLogger(__name__)

ARRAYS = ("raw", "denoised", "levels")


class Store(Protocol):
    """Store of the shards that are done, filled from any thread."""

    @property
    def seconds(self) -> float:
        """Spent so far, by killed runs too."""

    def found(self, shards: Iterable[int]) -> set[int]:
        """Those of the shards that need not be made."""

    def put(self, shard: int, made: Shard) -> None:
        """Keep a shard."""

    def get(self, shard: int) -> Shard:
        """A shard that was put or found."""

    def whole(self, name: str, length: int, parts: Iterable[np.ndarray]) -> np.ndarray:
        """The first rows of all parts in one uint8 array."""


class Memory:
    """A store for sets of samples that are small."""

    lock: None = None

    kept = staticmethod(contextlib.nullcontext)
    """See `Disk.kept`."""

    def __init__(self) -> None:
        self._begin, self._shards = time.perf_counter(), dict[int, Shard]()

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return time.perf_counter() - self._begin

    def found(self, shards: Iterable[int]) -> set[int]:
        """None: nothing outlives a process."""
        return set()

    def put(self, shard: int, made: Shard) -> None:
        """Keep a shard."""
        self._shards[shard] = made

    def get(self, shard: int) -> Shard:
        """A shard that was put."""
        return self._shards[shard]

    def whole(self, name: str, length: int, parts: Iterable[np.ndarray]) -> np.ndarray:
        """The first `length` rows of all parts in one array."""
        return np.concatenate(list(parts))[:length]


class Disk:
    """A store in a folder of its own, which holds no more than a shard in memory."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            UserError: another process works in the folder.
        """
        self.folder, self._begin = folder, time.perf_counter()
        folder.mkdir(parents=True, exist_ok=True)
        self.lock = held("sampler", "the samples", folder)
        self.kept = self.lock.unless_failed

    @property
    def seconds(self) -> float:
        """Since it was made, and before that until the newest shard found was done."""
        return time.perf_counter() - self._begin

    def found(self, shards: Iterable[int]) -> set[int]:
        """The shards that verify; one that does not is reported and made again."""
        whole = {shard for shard in shards if intact(self._place(shard))}
        costs = (read_json(self._place(shard) / "cost.json") for shard in whole)
        self._begin -= max((cost["seconds"] for cost in costs), default=0.0)
        return whole

    def put(self, shard: int, made: Shard) -> None:
        """Write a shard: it is there whole and with its hashes, or not at all.

        Raises:
            OSError: the disk is full.
        """
        with checksums.writing(self._place(shard)) as part:
            for name in ARRAYS:
                np.save(part / f"{name}.npy", getattr(made, name))
            write_json(part / "cost.json", {"nfe": made.nfe, "seconds": self.seconds})

    def get(self, shard: int) -> Shard:
        """Read a shard that was put or found."""
        place = self._place(shard)
        arrays = {name: np.load(place / f"{name}.npy", allow_pickle=False) for name in ARRAYS}
        return Shard(**arrays, nfe=read_json(place / "cost.json")["nfe"])

    def whole(self, name: str, length: int, parts: Iterable[np.ndarray]) -> np.ndarray:
        """The first `length` rows of all uint8 parts in NAME.npy of the folder, mapped for reading."""
        return stacked(self.folder / f"{name}.npy", length, parts)

    def _place(self, shard: int) -> Path:
        return self.folder / f"shard_{shard:08d}"


def intact(place: Path) -> bool:
    """Whether a shard's folder is there with every byte as written; a damaged one is reported and deleted."""
    try:
        checksums.verify(place)
    except UserError:
        if place.exists():
            logger.warning("%s is damaged: it is made again", place)
            shutil.rmtree(place)
        return False
    return True


def fingerprint(network: Module, settings: Mapping[str, object]) -> str:
    """SHA-256, 64 hexadecimal digits, of all that the bits of a shard follow from.

    Args:
        network: its structure as torch prints it, and every weight and buffer.
        settings: all else, as values that JSON holds.
    """
    code = program.version("pipeline.generate.generate", *program.modules({"network": network, **settings}))
    plain = {"network": str(network), "code": code, **settings}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
