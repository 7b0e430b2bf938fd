"""A name for all that a search follows from, so that no search finds the trials of another one."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.distributed.kept import code_version

CODE = (
    "data/order.py",
    "ncsn",
    "samplers",
    "training",
    "metrics/space",
    "distributed/search",
    "distributed/shards.py",
    "distributed/trials.py",
    "distributed/tune_noise.py",
    "distributed/tune_sampler.py",
)
"""Where the bits of a trial come from, besides its settings."""


def folder(storage: Path, stage: str, *parts: Any) -> Path:
    """Where a stage keeps the trials of the search that follows from `parts`, and from nothing else.

    Args:
        parts: plain values, mappings, sequences, arrays, networks, and objects made of these.
    """
    return storage / f"search-{stage}-{fingerprint(*parts)[:32]}"


def fingerprint(*parts: Any) -> str:
    """SHA-256, 64 hexadecimal digits, of values and of the code: equal in every process, equal or not."""
    digest = hashlib.sha256(code_version(CODE).encode())
    for piece in _pieces(parts):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(value: Any) -> Iterator[bytes | memoryview]:
    """A value as bytes that no other one has: its type, the number of its parts, and these."""
    if value is None or isinstance(value, bool | int | float | str):
        yield f"{type(value).__name__} {value!r};".encode()
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
    else:
        yield f"{type(value).__module__}.{type(value).__qualname__};".encode()
        yield from _pieces(vars(value))
