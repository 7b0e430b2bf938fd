"""Images in an .npy file, or in an .npz file beside their labels; read as a stream, without pickle."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from pipeline.data.source import BLOCK, Block, Raw
from pipeline.errors import UserError

HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read(paths: list[Path], image_size: int) -> Raw:
    """Read `images`, uint8 (N, H, W), (N, C, H, W) or (N, H, W, C), and `labels` int64 (N,), else zeros.

    Raises:
        UserError: naming the file, where it is damaged, holds no such array or images of another size.
    """
    path = paths[0]
    with _member(path, "images") as file:
        shape = _header(file, path, "images", np.dtype(np.uint8))
    layout = _layout(path, shape, image_size)
    labels = _labels(path, shape[0])
    return Raw(shape[0], layout[0], _blocks(path, shape, layout[1], labels))


@contextmanager
def _member(path: Path, name: str) -> Iterator[IO[bytes]]:
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                yield file
        else:
            with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
                yield file
    except KeyError as error:
        raise UserError(
            f"{path} has no array `{name}`: use np.savez(path, images=..., labels=...)."
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, IsADirectoryError) as error:
        raise UserError(f"{path} is no .npy or .npz file, or a damaged one ({error}).") from error


def _header(file: IO[bytes], path: Path, name: str, dtype: np.dtype) -> tuple[int, ...]:
    try:
        shape, fortran, found = HEADERS[np.lib.format.read_magic(file)](file)
    except (ValueError, KeyError) as error:
        raise UserError(f"{path}: `{name}` is no NumPy array ({error}).") from error
    if found != dtype or fortran:
        order = " in Fortran order" if fortran else ""
        raise UserError(f"{path}: `{name}` must be {dtype} in C order, not {found}{order}.")
    return tuple(shape)


def _layout(path: Path, shape: tuple[int, ...], size: int) -> tuple[int, bool]:
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


def _labels(path: Path, count: int) -> np.ndarray:
    if not _has_labels(path):
        return np.zeros(count, np.int64)
    with _member(path, "labels") as file:
        shape = _header(file, path, "labels", np.dtype(np.int64))
        if shape != (count,):
            raise UserError(f"{path}: `labels` has the shape {shape} for {count} images.")
        return np.frombuffer(_exactly(file, count * 8, path), np.int64)


def _has_labels(path: Path) -> bool:
    if path.suffix == ".npy":
        return False
    with zipfile.ZipFile(path) as archive:
        return "labels.npy" in archive.namelist()


def _exactly(file: IO[bytes], size: int, path: Path) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise UserError(f"{path} is cut short: {size - len(data)} bytes are missing.")
    return data


def _blocks(path: Path, shape: tuple[int, ...], channels_last: bool, labels: np.ndarray) -> Iterator[Block]:
    with _member(path, "images") as file:
        _header(file, path, "images", np.dtype(np.uint8))
        for start in range(0, shape[0], BLOCK):
            part = labels[start : start + BLOCK]
            data = _exactly(file, len(part) * int(np.prod(shape[1:])), path)
            images = np.frombuffer(data, np.uint8).reshape(len(part), *shape[1:])
            images = images.transpose(0, 3, 1, 2) if channels_last else images
            yield images.reshape(len(part), -1, *images.shape[-2:]), part
