"""CIFAR-10's binary archive: records of a label byte and 3,072 pixels. Members are read, never extracted."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.data.archives import tar_archive
from pipeline.data.source import Block, Raw, rows_in_block
from pipeline.ncsn.errors import UserError

FOLDER = "cifar-10-batches-bin"
TRAIN = [f"{FOLDER}/data_batch_{n}.bin" for n in range(1, 6)]
TEST = f"{FOLDER}/test_batch.bin"
CLASSES = 10


def read_cifar(paths: list[Path], image_size: int) -> Raw:
    """Read the five training batches, then the test batch."""
    path, record = paths[0], 1 + 3 * image_size**2
    with tar_archive(path) as archive:
        sizes = {member.name: member.size for member in archive if member.isfile()}
    counts = [_count(path, sizes, name, record) for name in [*TRAIN, TEST]]
    return Raw(sum(counts), 3, _blocks(path, image_size), own_test=counts[-1])


def _count(path: Path, sizes: dict[str, int], name: str, record: int) -> int:
    if name not in sizes:
        raise UserError(f"{path} has no file {name}: it is not CIFAR-10's binary archive.")
    if not sizes[name] or sizes[name] % record:
        raise UserError(f"{path}: {name} has {sizes[name]} bytes, which are no {record}-byte records.")
    return sizes[name] // record


def _blocks(path: Path, image_size: int) -> Iterator[Block]:
    record = 1 + 3 * image_size**2
    with tar_archive(path) as archive:
        for name in [*TRAIN, TEST]:
            member = archive.extractfile(name)
            assert member is not None  # a plain file
            while data := member.read(rows_in_block(record) * record):
                rows = np.frombuffer(data, np.uint8).reshape(-1, record)
                if rows[:, 0].max() >= CLASSES:
                    raise UserError(f"{path}: {name} holds the label {rows[:, 0].max()}; the highest is 9.")
                yield rows[:, 1:].reshape(-1, 3, image_size, image_size), rows[:, 0].astype(np.int64)
