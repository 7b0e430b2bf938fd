"""Mapped arrays: what was stacked is what is read, and pages given back come again."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.memmap import release, stacked


def resident(path: Path) -> int:
    """Bytes of a file that this process holds in memory, by the kernel's account."""
    blocks = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE)
    found = [re.search(r"^Rss:\s+(\d+) kB", block, re.MULTILINE) for block in blocks if str(path) in block]
    return sum(int(match[1]) * 1024 for match in found if match)


def parts(sizes: list[int]) -> Iterator[np.ndarray]:
    for number, size in enumerate(sizes):
        yield np.full((size, 2, 3), number, np.float32)


@pytest.mark.parametrize(("sizes", "length"), [([4, 4, 4], 12), ([4, 4, 4], 9), ([5], 3), ([2, 7], 9)])
def test_the_first_rows_of_all_parts(sizes: list[int], length: int, tmp_path: Path) -> None:
    whole = stacked(tmp_path / "a.npy", length, parts(sizes))
    assert np.array_equal(whole, np.concatenate(list(parts(sizes)))[:length])
    assert whole.dtype == np.float32 and not whole.flags.writeable
    assert np.array_equal(np.load(tmp_path / "a.npy"), whole)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the kernel's account is Linux's")
def test_pages_given_back_are_no_longer_held_and_come_again(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    whole = stacked(path, 4096, (np.full((1024, 1024), n, np.uint8) for n in range(4)))
    assert int(whole.sum(dtype=np.int64)) == 6 * 2**20 and resident(path) >= 2**22
    release(whole[10:20, ::2])
    assert resident(path) < 2**17
    assert int(whole.sum(dtype=np.int64)) == 6 * 2**20


def test_what_is_not_a_file_keeps_what_it_holds(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(10))
    private = np.load(tmp_path / "a.npy", mmap_mode="c")
    private += 1
    for array in (np.ones(10), torch.ones(10).numpy(), private, private[2:]):
        release(array)
        assert array.all(), "a private change is not given back"


def test_what_was_written_is_not_lost_when_it_is_given_back(tmp_path: Path) -> None:
    written = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (10_000,))
    written[:] = 7
    release(written)
    assert (written == 7).all() and (np.load(tmp_path / "a.npy") == 7).all()
