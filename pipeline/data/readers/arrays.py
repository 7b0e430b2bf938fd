"""Images in an .npy file, or in an .npz file with their labels; read as a stream, without pickle."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from pipeline.data.archives import zip_archive
from pipeline.data.source import Block, Raw, rows_in_block
from pipeline.ncsn.errors import UserError

HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
Shape = tuple[int, ...]


def read_arrays(paths: list[Path], image_size: int) -> Raw:
    """Read `images`, uint8 (N, H, W), (N, C, H, W) or (N, H, W, C), and `labels` int64 (N,), else zeros."""
    path = paths[0]
    with _member(path, "images") as (file, size):
        shape = _header(file, size, path, "images", np.dtype(np.uint8))
    channels, last = _layout(path, shape, image_size)
    labels = _labels(path, shape[0]) if _has_labels(path) else np.zeros(shape[0], np.int64)
    return Raw(shape[0], channels, _blocks(path, shape, last, labels))


@contextmanager
def _member(path: Path, name: str) -> Iterator[tuple[IO[bytes], int]]:
    """An array's file and its bytes."""
    if path.suffix == ".npy" and path.is_file():
        with path.open("rb") as file:
            yield file, path.stat().st_size
    elif path.suffix == ".npz" and path.is_file():
        with zip_archive(path) as archive:
            if f"{name}.npy" not in archive.namelist():
                raise UserError(f"{path} has no array `{name}`: use np.savez(path, images=..., labels=...).")
            with archive.open(f"{name}.npy") as file:
                yield file, archive.getinfo(f"{name}.npy").file_size
    else:
        raise UserError(f"data.source: {path} is no .npy or .npz file.")


def _header(file: IO[bytes], size: int, path: Path, name: str, dtype: np.dtype) -> Shape:
    """The shape that an array of `size` bytes declares, and has."""
    try:
        shape, fortran, found = HEADERS[np.lib.format.read_magic(file)](file)
    except (ValueError, KeyError) as error:
        raise UserError(f"{path}: `{name}` is no NumPy array ({error}).") from error
    if found != dtype or fortran:
        order = " in Fortran order" if fortran else ""
        raise UserError(f"{path}: `{name}` must be {dtype} in C order, not {found}{order}.")
    declared = math.prod(shape) * dtype.itemsize
    if declared != size - file.tell():
        raise UserError(f"{path}: `{name}` declares {declared} bytes and has {size - file.tell()}.")
    return tuple(shape)


def _layout(path: Path, shape: Shape, size: int) -> tuple[int, bool]:
    """Number of channels, and whether they come last."""
    if shape[1:] == (size, size):
        return 1, False
    if len(shape) == 4 and shape[1] in (1, 3) and shape[2:] == (size, size):
        return shape[1], False
    if len(shape) == 4 and shape[3] in (1, 3) and shape[1:3] == (size, size):
        return shape[3], True
    raise UserError(
        f"{path}: `images` has the shape {shape}; data.image_size: {size} needs (N, {size}, {size}), "
        f"(N, 1 or 3, {size}, {size}) or (N, {size}, {size}, 1 or 3)."
    )


def _has_labels(path: Path) -> bool:
    if path.suffix == ".npy":
        return False
    with zip_archive(path) as archive:
        return "labels.npy" in archive.namelist()


def _labels(path: Path, count: int) -> np.ndarray:
    with _member(path, "labels") as (file, size):
        shape = _header(file, size, path, "labels", np.dtype(np.int64))
        if shape != (count,):
            raise UserError(f"{path}: `labels` has the shape {shape} for {count} images.")
        return np.frombuffer(_exactly(file, count * 8, path), np.int64)


def _exactly(file: IO[bytes], size: int, path: Path) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise UserError(f"{path} is cut short: {size - len(data)} bytes are missing.")
    return data


def _blocks(path: Path, shape: Shape, channels_last: bool, labels: np.ndarray) -> Iterator[Block]:
    rows = rows_in_block(*shape[1:])
    with _member(path, "images") as (file, size):
        _header(file, size, path, "images", np.dtype(np.uint8))
        for start in range(0, shape[0], rows):
            part = labels[start : start + rows]
            data = _exactly(file, len(part) * math.prod(shape[1:]), path)
            images = np.frombuffer(data, np.uint8).reshape(len(part), *shape[1:])
            images = images.transpose(0, 3, 1, 2) if channels_last else images
            yield images.reshape(len(part), -1, *images.shape[-2:]), part
