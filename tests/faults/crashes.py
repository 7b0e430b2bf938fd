"""A training in processes of its own, without Ray, that kills itself at a chosen write to the disk."""

import datetime
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from pipeline.training import checksums
from pipeline.training.fit import fit
from tests.training.tiny import make_images, make_task

PATIENCE = datetime.timedelta(seconds=15)
"""For a worker that was killed before it came to the group."""
TASK = {"steps": 30, "checkpoint_every": 2, "snapshot_every": 5, "log_every": 2}
POINTS = (
    "before fsync",
    "before the manifest",
    "before the rename",
    "after the rename",
    "in a file",
    "in pruning",
)


def train(folder: Path, meeting: Path, rank: int, workers: int, crash: tuple[str, int] | None) -> None:
    """One worker's life; the first is killed at the n-th passing of a point, where `crash` names them."""
    torch.set_num_threads(1)
    if crash and rank == 0:
        _arm(*crash)
    if workers > 1:
        dist.init_process_group("gloo", f"file://{meeting}", PATIENCE, rank=rank, world_size=workers)
    fit(make_task(**TASK), make_images(), folder)
    if workers > 1:
        dist.barrier()


def _arm(point: str, passing: int) -> None:
    left = [passing]

    def passed() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    if point == "in pruning":
        shutil.rmtree = _cut(shutil.rmtree, passed)
    elif point == "in a file":
        _before(Path, "write_bytes", passed, lambda path, content: _half(path, content))
    elif point == "before the manifest":
        _before(checksums.files, "write_text", passed)
    elif point == "before fsync":
        _before(checksums, "fsync", passed)
    else:
        real = Path.rename

        def rename(path: Path, target: Path) -> Path:
            if point == "before the rename":
                passed()
            moved = real(path, target)
            if point == "after the rename":
                passed()
            return moved

        Path.rename = rename  # type: ignore[method-assign,assignment]


def _before(owner: Any, name: str, passed: Callable[[], None], also: Callable[..., None] | None = None) -> None:
    real = getattr(owner, name)

    def call(*arguments: Any, **named: Any) -> Any:
        if also:
            also(*arguments)
        passed()
        return real(*arguments, **named)

    setattr(owner, name, call)


def _half(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content[: len(content) // 2])


def _cut(real: Callable[..., None], passed: Callable[[], None]) -> Any:
    """rmtree that comes half way before the crash."""

    def rmtree(folder: Path, *arguments: Any, **named: Any) -> None:
        for path in sorted(Path(folder).glob("*"))[:2]:
            path.unlink()
            passed()
        real(folder, *arguments, **named)

    return rmtree
