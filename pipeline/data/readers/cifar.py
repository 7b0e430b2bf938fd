"""CIFAR-10's binary archive: records of a label byte and 3,072 pixels. Members are read, never extracted."""

import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pipeline.data.source import BLOCK, Block, Raw
from pipeline.errors import UserError

FOLDER = "cifar-10-batches-bin"
TRAIN = [f"{FOLDER}/data_batch_{n}.bin" for n in range(1, 6)]
TEST = f"{FOLDER}/test_batch.bin"
CLASSES = 10


def read(paths: list[Path], image_size: int) -> Raw:
    """Read the five training batches, then the test batch.

    Raises:
        UserError: naming the archive, and the member that is missing, cut short or holds a label above 9.
    """
    path, record = paths[0], 1 + 3 * image_size**2
    with _archive(path) as tar:
        counts = [_count(path, tar, name, record) for name in [*TRAIN, TEST]]
    return Raw(sum(counts), 3, _blocks(path, image_size), own_test=counts[-1])


@contextmanager
def _archive(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path, "r:*") as tar:
            yield tar
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise UserError(f"{path} is a damaged archive ({error}): fetch it again.") from error


def _count(path: Path, tar: tarfile.TarFile, name: str, record: int) -> int:
    try:
        member = tar.getmember(name)
    except KeyError as error:
        raise UserError(f"{path} has no member {name}: it is not CIFAR-10's binary archive.") from error
    if not member.isfile() or not member.size or member.size % record:
        raise UserError(f"{path}: {name} has {member.size} bytes, which are no {record}-byte records.")
    return member.size // record


def _blocks(path: Path, image_size: int) -> Iterator[Block]:
    record = 1 + 3 * image_size**2
    with _archive(path) as tar:
        for name in [*TRAIN, TEST]:
            member = tar.extractfile(name)
            assert member is not None  # _count has seen that it is a file
            while data := member.read(BLOCK * record):
                rows = np.frombuffer(data, np.uint8).reshape(-1, record)
                if rows[:, 0].max() >= CLASSES:
                    raise UserError(f"{path}: {name} holds the label {rows[:, 0].max()}; the highest is 9.")
                yield rows[:, 1:].reshape(-1, 3, image_size, image_size), rows[:, 0].astype(np.int64)
