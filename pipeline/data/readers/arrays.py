"""Images in an .npy file, or in an .npz file with their labels; read as a stream, without pickle."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from pipeline.data.archives import zip_archive
from pipeline.data.source import Block, Raw, rows_in_block
from pipeline.ncsn.errors import UserError

HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
Shape = tuple[int, ...]
Pair = tuple[str, str]
"""The names of an array of images and of its labels."""
LAYOUTS: tuple[tuple[Pair, ...], ...] = (
    (("images", "labels"),),
    (("arr_0", "arr_1"),),  # guided-diffusion, and np.savez without names
    (("train_images", "train_labels"), ("test_images", "test_labels")),  # MedMNIST
    (("x_train", "y_train"), ("x_test", "y_test")),  # Keras
)
"""Ours and those of others: the training images, then the test images, which a file may lack."""
CONVERT = "np.savez('images.npz', images=np.round(images.clip(0, 1) * 255).astype(np.uint8), labels=labels)"


@dataclass(frozen=True)
class Head:
    """What an array's header says, and how many bytes follow it."""

    name: str
    shape: Shape
    dtype: np.dtype
    fortran: bool
    held: int

    def faults(self) -> Iterator[str]:
        declared = math.prod(self.shape) * self.dtype.itemsize
        if self.fortran:
            yield f"`{self.name}` is in Fortran order: use np.ascontiguousarray"
        if declared != self.held and not self.dtype.hasobject:
            yield f"`{self.name}` declares {declared} bytes and has {self.held}"


@dataclass(frozen=True)
class Part:
    """An array of images and, if there is one, that of their labels."""

    images: Head
    labels: Head | None


def read_arrays(paths: list[Path], image_size: int) -> Raw:
    """Read uint8 images (N, H, W), (N, C, H, W) or (N, H, W, C), and whole numbers (N,) or (N, 1) as labels, else 0.

    The arrays' names are those of one of `LAYOUTS`.
    """
    path = paths[0]
    names = _names(path)
    parts = [Part(_head(path, x), _head(path, y) if y in names else None) for x, y in _pairs(path, names)]
    _check(path, parts, image_size)
    counts = [part.images.shape[0] for part in parts]
    channels, _ = _layout(parts[0].images.shape, image_size) or (0, False)
    return Raw(
        count=sum(counts),
        channels=channels,
        blocks=(block for part in parts for block in _blocks(path, part, image_size)),
        own_test=sum(counts[1:]),
        transformations=_left_out(names, parts),
    )


def side(path: Path) -> int:
    """Height of the images in a file, in pixels; 0 of an array that has none. Raises UserError of another file."""
    shape = _head(path, _pairs(path, _names(path))[0][0]).shape
    return shape[2 if len(shape) == 4 and shape[1] in (1, 3) else 1] if len(shape) > 2 else 0


def _names(path: Path) -> list[str]:
    """The arrays of a file."""
    if path.suffix == ".npy" and path.is_file():
        return ["images"]
    if path.suffix != ".npz" or not path.is_file():
        raise UserError(f"data.source: {path} is no .npy or .npz file.")
    with zip_archive(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def _pairs(path: Path, names: list[str]) -> list[Pair]:
    for layout in LAYOUTS:
        if layout[0][0] in names:
            return [pair for pair in layout if pair[0] in names]
    others = ", ".join(f"`{layout[0][0]}`" for layout in LAYOUTS[1:])
    raise UserError(
        f"{path} has no array `images` (nor {others}), but {', '.join(names) or 'none'}: "
        "use np.savez(path, images=..., labels=...)."
    )


def _left_out(names: list[str], parts: list[Part]) -> tuple[str, ...]:
    used = {head.name for part in parts for head in (part.images, part.labels) if head}
    rest = [name for name in names if name not in used]
    return (f"arrays left out: {', '.join(rest)}",) if rest else ()


@contextmanager
def _member(path: Path, name: str) -> Iterator[tuple[IO[bytes], int]]:
    """An array's file and its bytes."""
    if path.suffix == ".npy":
        with path.open("rb") as file:
            yield file, path.stat().st_size
    else:
        with zip_archive(path) as archive, archive.open(f"{name}.npy") as file:
            yield file, archive.getinfo(f"{name}.npy").file_size


def _head(path: Path, name: str) -> Head:
    with _member(path, name) as (file, size):
        return _read_head(file, size, path, name)


def _read_head(file: IO[bytes], size: int, path: Path, name: str) -> Head:
    try:
        shape, fortran, dtype = HEADERS[np.lib.format.read_magic(file)](file)
    except (ValueError, KeyError) as error:
        raise UserError(f"{path}: `{name}` is no NumPy array ({error}).") from error
    return Head(name, tuple(shape), dtype, bool(fortran), size - file.tell())


def _check(path: Path, parts: list[Part], size: int) -> None:
    """Refuse all that is wrong with the arrays in one message."""
    wrong = [fault for part in parts for fault in _faults(part, size)]
    kinds = {part.images.shape[1:] for part in parts}
    if len(kinds) > 1 and not wrong:
        wrong.append(f"the arrays of images differ in shape: {' and '.join(map(str, sorted(kinds)))}")
    if wrong:
        raise UserError(f"{path} cannot be used:\n" + "".join(f"  {line}.\n" for line in wrong).rstrip("\n"))


def _faults(part: Part, size: int) -> Iterator[str]:
    images, labels = part.images, part.labels
    yield from images.faults()
    if images.dtype != np.uint8:
        convert = f": of values in [0, 1], {CONVERT}" if images.dtype.kind == "f" else ""
        yield f"`{images.name}` must be uint8 in C order, not {images.dtype}{convert}"
    if not _layout(images.shape, size):
        yield (
            f"`{images.name}` has the shape {images.shape}; data.image_size: {size} needs (N, {size}, {size}), "
            f"(N, 1 or 3, {size}, {size}) or (N, {size}, {size}, 1 or 3)"
        )
    if labels:
        count = images.shape[0] if images.shape else 0
        yield from labels.faults()
        if labels.dtype.kind not in "iu":
            yield f"`{labels.name}` must be whole numbers, the classes, not {labels.dtype}: use .astype(np.int64)"
        if labels.shape not in ((count,), (count, 1)):
            yield f"`{labels.name}` has the shape {labels.shape} for {count} images: one class for each is needed"


def _layout(shape: Shape, size: int) -> tuple[int, bool] | None:
    """Number of channels, and whether they come last; None of another shape."""
    if shape[1:] == (size, size):
        return 1, False
    if len(shape) == 4 and shape[1] in (1, 3) and shape[2:] == (size, size):
        return shape[1], False
    if len(shape) == 4 and shape[3] in (1, 3) and shape[1:3] == (size, size):
        return shape[3], True
    return None


def _labels(path: Path, part: Part) -> np.ndarray:
    """The labels of a part, int64 (N,)."""
    head = part.labels
    if head is None:
        return np.zeros(part.images.shape[0], np.int64)
    with _member(path, head.name) as (file, size):
        _read_head(file, size, path, head.name)
        return np.frombuffer(_exactly(file, head.held, path), head.dtype).astype(np.int64)


def _exactly(file: IO[bytes], size: int, path: Path) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise UserError(f"{path} is cut short: {size - len(data)} bytes are missing.")
    return data


def _blocks(path: Path, part: Part, image_size: int) -> Iterator[Block]:
    shape, labels = part.images.shape, _labels(path, part)
    channels, last = _layout(shape, image_size) or (0, False)
    rows = rows_in_block(*shape[1:])
    with _member(path, part.images.name) as (file, size):
        _read_head(file, size, path, part.images.name)
        for start in range(0, shape[0], rows):
            few = labels[start : start + rows]
            data = _exactly(file, len(few) * math.prod(shape[1:]), path)
            images = np.frombuffer(data, np.uint8).reshape(len(few), *shape[1:])
            images = images.transpose(0, 3, 1, 2) if last else images
            yield images.reshape(len(few), channels, *images.shape[-2:]), few
