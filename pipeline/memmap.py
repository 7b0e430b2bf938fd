"""Arrays that lie on disk and are mapped into memory, so that no process has to hold them."""

import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np


def stacked(path: Path, length: int, parts: Iterable[np.ndarray]) -> np.ndarray:
    """Write the first `length` rows of all parts to a .npy file and map it for reading.

    Args:
        length: rows of the whole, which the parts have at least.
        parts: arrays of one type, (n, *shape), of which one at a time is held.
    """
    row, whole = 0, np.empty(0)
    for part in parts:
        if not row:
            whole = np.lib.format.open_memmap(path, "w+", part.dtype, (length, *part.shape[1:]))
        whole[row : row + len(part)] = part[: length - row]
        row += len(part)
        release(whole)
    del whole
    opened: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return opened


def release(array: np.ndarray) -> None:
    """Give back the memory of a mapped file's pages, which are read again when asked for; others keep theirs.

    Args:
        array: any array; a mapping whose changes are private (mode "c") is left alone.
    """
    owner: Any = array
    while isinstance(owner, np.ndarray):
        if isinstance(owner.base, mmap.mmap) and getattr(owner, "mode", "c") != "c":
            owner.base.madvise(mmap.MADV_DONTNEED)
        owner = owner.base
