"""IDX, the format of MNIST and Fashion-MNIST: a big-endian header, then a byte per pixel or label."""

import struct
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pipeline.data.source import Block, Raw, open_content, rows_in_block
from pipeline.ncsn.errors import UserError

UBYTE = 8


def read_idx(paths: list[Path], image_size: int) -> Raw:
    """Read train images, train labels, test images, test labels, in this order."""
    counts = [_count(path, image_size) for path in paths[::2]]
    labels = [_labels(path, count) for path, count in zip(paths[1::2], counts, strict=True)]
    blocks = chain.from_iterable(_blocks(path, y, image_size) for path, y in zip(paths[::2], labels, strict=True))
    return Raw(sum(counts), 1, blocks, own_test=counts[1])


def _header(file: BinaryIO, path: Path, dimensions: int) -> tuple[int, ...]:
    magic = _exactly(file, 4, path)
    if magic != bytes([0, 0, UBYTE, dimensions]):
        raise UserError(
            f"{path} is no IDX file of bytes in {dimensions} dimension(s): "
            f"it starts with {magic.hex()}, not with 0000{UBYTE:02}{dimensions:02}."
        )
    return struct.unpack(f">{dimensions}I", _exactly(file, 4 * dimensions, path))


def _exactly(file: BinaryIO, size: int, path: Path) -> bytes:
    try:
        data = file.read(size)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be unpacked ({error}): fetch it again.") from error
    if len(data) < size:
        raise UserError(f"{path} is cut short: {size - len(data)} bytes are missing. Fetch it again.")
    return data


def _end(file: BinaryIO, path: Path) -> None:
    if file.read(1):
        raise UserError(f"{path} is longer than its header says: fetch it again.")


def _count(path: Path, image_size: int) -> int:
    with open_content(path) as file:
        count, height, width = _header(file, path, 3)
    if (height, width) != (image_size, image_size):
        raise UserError(f"{path} holds {height}x{width} images, not {image_size}x{image_size}.")
    return count


def _labels(path: Path, count: int) -> np.ndarray:
    with open_content(path) as file:
        (found,) = _header(file, path, 1)
        if found != count:
            raise UserError(f"{path} holds {found} labels for {count} images: fetch both files again.")
        labels = np.frombuffer(_exactly(file, count, path), np.uint8)
        _end(file, path)
    return labels.astype(np.int64)


def _blocks(path: Path, labels: np.ndarray, image_size: int) -> Iterator[Block]:
    with open_content(path) as file:
        _header(file, path, 3)
        rows = rows_in_block(image_size, image_size)
        for start in range(0, len(labels), rows):
            part = labels[start : start + rows]
            data = _exactly(file, len(part) * image_size**2, path)
            yield np.frombuffer(data, np.uint8).reshape(len(part), 1, image_size, image_size), part
        _end(file, path)
