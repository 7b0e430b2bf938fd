"""Where searches keep their trials: folders named by all that a search follows from, so that none finds
the trials of another one."""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import torch

from pipeline import program

ROOTS = ("pipeline.search.run", "pipeline.search.here", "pipeline.search.algorithms")
"""What decides which trials there are; what they compute follows from the parts of a search."""


class Kept:
    """The trials of a stage's searches on disk, until the stage's output is in place."""

    def __init__(self, storage: Path, stage: str) -> None:
        """
        Args:
            storage: a folder, `compute.storage`; each search has one of its own in it.
        """
        self._storage, self._stage = storage, stage
        self._folders: list[Path] = []

    def folder(self, *parts: Any) -> Path:
        """The folder of the search that follows from `parts`, see `fingerprint`; it need not be there."""
        self._folders.append(self._storage / f"search-{self._stage}-{fingerprint(*parts)[:32]}")
        return self._folders[-1]

    def discard(self) -> None:
        """Delete the folders asked for: what was found is in its place."""
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)


def fingerprint(*parts: Any) -> str:
    """SHA-256, 64 hexadecimal digits, of values and of the code that these name: functions, classes, kinds.

    Args:
        parts: plain values, mappings, sequences, arrays, networks, functions of a module, and dataclasses
            made of these.

    Raises:
        TypeError: a part is something else.
    """
    digest = hashlib.sha256(program.version(*ROOTS, *program.modules(parts)).encode())
    for piece in _pieces(parts):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(value: Any) -> Iterator[bytes | memoryview]:
    """A value as bytes that no other one has: its type, the number of its parts, and these."""
    if value is None or isinstance(value, bool | int | float | str):
        yield f"{type(value).__name__} {value!r};".encode()
    elif isinstance(value, np.generic):
        yield from _pieces(value.item())
    elif isinstance(value, np.ndarray):
        yield f"array {value.dtype} {value.shape};".encode()
        yield np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
    elif isinstance(value, torch.Tensor):
        yield from _pieces(value.detach().cpu().numpy())
    elif isinstance(value, torch.nn.Module):
        yield from _pieces([str(value), dict(value.state_dict())])
    elif isinstance(value, Mapping):
        yield f"mapping {len(value)};".encode()
        yield from (piece for item in sorted(value.items()) for each in item for piece in _pieces(each))
    elif isinstance(value, list | tuple | range):
        yield f"sequence {len(value)};".encode()
        yield from (piece for each in value for piece in _pieces(each))
    elif is_dataclass(value) and not isinstance(value, type):
        yield f"{type(value).__module__}.{type(value).__qualname__};".encode()
        yield from _pieces(vars(value))
    elif isinstance(value, FunctionType) and "<" not in value.__qualname__:
        yield f"{value.__module__}.{value.__qualname__};".encode()
    else:
        raise TypeError(f"a search cannot be told from another one by a {type(value).__qualname__}")
