"""Preparation of a data set: from a source to images.npy, labels.npy and their manifest."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from pipeline import files
from pipeline.data import duplicates
from pipeline.data.catalogue import source_of
from pipeline.data.dataset import IMAGES, LABELS, MANIFEST, RANGE, Duplicates, Manifest, SourceFile, seal
from pipeline.data.fetch import locate
from pipeline.data.order import HOLD_OUT, permutation
from pipeline.data.source import Raw, Source
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.noise import max_pairwise_distance

MAX_CLASSES = 10_000
log = logging.getLogger(__name__)


def prepare(
    out: Path,
    *,
    name: str,
    source: str | None,
    image_size: int,
    num_held_out: int | None,
    seed: int,
    background: Sequence[int] | None = None,
    white: int | None = None,
    to_rgb: bool = False,
) -> Manifest:
    """Write a data set of the catalogue to the folder `out`, whole or not at all; memory stays flat.

    images.npy is uint8 (N, C, H, W), the training images first and the held-out ones after them, both in
    the order of the source; labels.npy is int64 (N,).

    Args:
        name: a key of the catalogue.
        source: a local file or folder, or the address of a mirror; None: packaged or downloaded.
        num_held_out: how many images are kept from training, chosen by `seed`; None: the data set's own
            test split.
        background: red, green and blue, 0 to 255, that images with an alpha channel are laid on; None: they
            are refused.
        white: the value of a pixel of 16 bits that stands for 1; None: images of 16 bits are refused.
        to_rgb: palettes and grey become RGB; else palettes, and grey among colour, are refused.

    Returns:
        The manifest. It names files by name and checksum, not by path: the same data give the same bytes
        on every machine.

    Raises:
        UserError: unknown name, size or background that is not available, num_held_out too large, missing or
            corrupt file, images that cannot be used, labels that are no classes.
    """
    more = {"background": background, "white": white, "to_rgb": to_rgb}
    entry = _entry(name, image_size, more)
    paths = locate(name, entry, source)
    raw = entry.read(paths, image_size, **{key: more[key] for key in entry.takes})
    for line in raw.transformations:
        log.info("%s: %s", name, line)
    held = _held_rows(name, raw, num_held_out, seed)
    with files.whole_folder(out) as folder:
        classes, equal = _write(folder, raw, held, image_size)
        train = raw.count - len(held)
        manifest: Manifest = {
            "name": name,
            "title": entry.title,
            "licence": entry.licence,
            "homepage": entry.homepage,
            "shape": [raw.count, raw.channels, image_size, image_size],
            "dtype": "uint8",
            "range": RANGE,
            "sha256": {"images": files.sha256(folder / IMAGES), "labels": files.sha256(folder / LABELS)},
            "split": {
                "train": [0, train],
                "held_out": [train, raw.count],
                "seed": seed if num_held_out else None,
                "held_out_source_rows": held.tolist() if num_held_out else None,
            },
            "transformations": list(raw.transformations),
            "classes": classes,
            "duplicates": equal,
            "max_pairwise_distance": _largest_distance(folder / IMAGES, train),
            "source": _origin(entry, paths),
        }
        files.write_json(folder / MANIFEST, seal(manifest))
    log.info("%s: %d images, %d classes", name, raw.count, classes)
    _warn_of_duplicates(equal)
    return manifest


def _entry(name: str, image_size: int, more: Mapping[str, object]) -> Source:
    entry = source_of(name)
    if entry.image_sizes and image_size not in entry.image_sizes:
        sizes = " or ".join(map(str, entry.image_sizes))
        raise UserError(f"data.image_size: {image_size} is not available for {name}: set it to {sizes}.")
    for key, value in more.items():
        if value and key not in entry.takes:
            raise UserError(f"data.{key}: {value} is for folders of images, not for {name}: remove it.")
    return entry


def _held_rows(name: str, raw: Raw, num_held_out: int | None, seed: int) -> np.ndarray:
    """Ascending rows of the source that are kept from training; int64 (n,)."""
    if raw.count < 2:
        raise UserError(f"{name} holds {raw.count} image(s): one to train on and one to hold out are needed.")
    if num_held_out is None:
        if not 0 < raw.own_test < raw.count:
            raise UserError(
                f"data.num_held_out: null means the data set's own test split, and {name} has none: "
                f"give a number below its {raw.count} images."
            )
        return np.arange(raw.count - raw.own_test, raw.count)
    if num_held_out >= raw.count:
        raise UserError(f"data.num_held_out: {num_held_out} must be below the {raw.count} images of {name}.")
    return np.sort(permutation(raw.count, HOLD_OUT, seed)[:num_held_out])


def _write(folder: Path, raw: Raw, held: np.ndarray, image_size: int) -> tuple[int, Duplicates]:
    """Write both arrays a block at a time; returns the number of classes and of equal images.

    Plain writes rather than a memory map: on a full disk they raise, where a map kills the process.
    """
    keep = np.ones(raw.count, bool)
    keep[held] = False
    prints, highest, row = np.empty(raw.count, np.uint64), 0, 0
    shape = (raw.count, raw.channels, image_size, image_size)
    train = raw.count - len(held)
    with (
        _two_ends(folder / IMAGES, np.dtype(np.uint8), shape, train) as image_ends,
        _two_ends(folder / LABELS, np.dtype(np.int64), shape[:1], train) as label_ends,
    ):
        for images, labels in raw.blocks:
            highest = max(highest, _highest(labels))
            kept = keep[row : row + len(images)]
            for end, rows in enumerate((kept, ~kept)):
                image_ends[end].write(images[rows].tobytes())
                label_ends[end].write(labels[rows].tobytes())
            prints[row : row + len(images)] = duplicates.fingerprints(images)
            row += len(images)
    return highest + 1, duplicates.count(prints[keep], prints[~keep])


@contextmanager
def _two_ends(path: Path, dtype: np.dtype, shape: tuple[int, ...], train: int) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """An .npy file of a shape, to be written at its first row and at row `train`."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with path.open("wb") as first:
        np.lib.format.write_array_header_1_0(first, header)
        first.flush()
        with path.open("r+b") as second:
            second.seek(first.tell() + train * int(np.prod(shape[1:])) * dtype.itemsize)
            yield first, second


def _largest_distance(images: Path, train: int) -> float | None:
    mapped = np.load(images, mmap_mode="c")[:train]
    return max_pairwise_distance(torch.from_numpy(mapped)) / 255 if len(mapped) > 1 else None


def _highest(labels: np.ndarray) -> int:
    if labels.min() < 0 or labels.max() >= MAX_CLASSES:
        raise UserError(
            f"labels run from {labels.min()} to {labels.max()}: number the classes from 0, below {MAX_CLASSES}."
        )
    return int(labels.max())


def _origin(entry: Source, paths: list[Path]) -> list[SourceFile]:
    """Name and checksum of each file that was read; a folder of images has no checksum."""
    if not entry.files:
        return [{"name": p.name, "of": "file", "sha256": files.sha256(p) if p.is_file() else None} for p in paths]
    return [
        {"name": file.name, "of": file.of, "sha256": file.sha256 if path.is_file() else None}
        for file, path in zip(entry.files, paths, strict=True)
    ]


def _warn_of_duplicates(found: Duplicates) -> None:
    if any(found.values()):
        log.warning(
            "equal images: %d repeat another of the training images, %d of the held-out ones, "
            "and %d held-out images are training images too",
            *(found["train"], found["held_out"], found["held_out_in_train"]),
        )
