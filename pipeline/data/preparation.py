"""From a source to the prepared form: images.npy, labels.npy and the manifest that vouches for them."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline import files
from pipeline.data.catalogue import CATALOGUE
from pipeline.data.dataset import IMAGES, LABELS, MANIFEST, RANGE, seal
from pipeline.data.fetch import locate
from pipeline.data.order import HOLD_OUT, permutation
from pipeline.data.source import Raw, Source
from pipeline.errors import UserError


def prepare(
    out: Path, *, name: str, source: str | None, image_size: int, held_out: int | None, seed: int
) -> dict[str, Any]:
    """Write a data set of the catalogue to the folder `out`, whole or not at all; memory stays flat.

    images.npy is uint8 (N, C, H, W), the training images first and the held-out ones after them, both in
    the order of the source; labels.npy is int64 (N,).

    Args:
        name: a key of the catalogue.
        source: a local file or folder; None: packaged or downloaded.
        held_out: how many images are kept from training, chosen by `seed`; None: the data set's own
            test split.

    Returns:
        The manifest. It names files by name and checksum, not by path: the same data give the same bytes
        on every machine.

    Raises:
        UserError: unknown name, size that is not available, held_out too large, missing or corrupt file.
    """
    entry = _entry(name, image_size)
    paths = locate(name, entry, source)
    raw = entry.read(paths, image_size)
    held = _held_rows(name, raw, held_out, seed)
    with files.whole_folder(out) as folder:
        labels = _write(folder, raw, held, image_size)
        manifest = _describe(folder, entry, raw, held, labels, name=name, image_size=image_size)
        manifest["split"]["seed"] = seed if held_out else None
        manifest["split"]["held_out_source_rows"] = held.tolist() if held_out else None
        manifest["source"] = _origin(entry, paths)
        files.write_json(folder / MANIFEST, seal(manifest))
    return manifest


def _entry(name: str, image_size: int) -> Source:
    if name not in CATALOGUE:
        raise UserError(f"data.name: {name!r} is not in the catalogue; known: {', '.join(CATALOGUE)}.")
    entry = CATALOGUE[name]
    if entry.image_sizes and image_size not in entry.image_sizes:
        sizes = " or ".join(map(str, entry.image_sizes))
        raise UserError(f"data.image_size: {image_size} is not available for {name}: set it to {sizes}.")
    return entry


def _held_rows(name: str, raw: Raw, held_out: int | None, seed: int) -> np.ndarray:
    """Ascending rows of the source that are kept from training; int64 (n,)."""
    if held_out is None:
        if not raw.own_test:
            raise UserError(
                f"data.held_out: null means the data set's own test split, and {name} has none: "
                f"give a number below its {raw.count} images."
            )
        return np.arange(raw.count - raw.own_test, raw.count)
    if held_out >= raw.count:
        raise UserError(f"data.held_out: {held_out} must be below the {raw.count} images of {name}.")
    return np.sort(permutation(raw.count, HOLD_OUT, seed)[:held_out])


def _write(folder: Path, raw: Raw, held: np.ndarray, image_size: int) -> np.ndarray:
    """Write both arrays, a block at a time; returns the labels in the order written.

    Plain writes rather than a memory map: on a full disk they raise, where a map kills the process.
    """
    shape = (raw.count, raw.channels, image_size, image_size)
    keep = np.ones(raw.count, bool)
    keep[held] = False
    start = _write_header(folder / IMAGES, shape)
    parts, row = [], 0
    with (folder / IMAGES).open("r+b") as train, (folder / IMAGES).open("r+b") as rest:
        train.seek(start)
        rest.seek(start + int(keep.sum()) * int(np.prod(shape[1:])))
        for images, block_labels in raw.blocks:
            kept = keep[row : row + len(images)]
            train.write(images[kept].tobytes())
            rest.write(images[~kept].tobytes())
            parts.append(block_labels)
            row += len(images)
    labels = np.concatenate(parts)
    labels = np.concatenate([labels[keep], labels[held]])
    np.save(folder / LABELS, labels)
    return labels


def _write_header(path: Path, shape: tuple[int, ...]) -> int:
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        return file.tell()


def _describe(
    folder: Path, entry: Source, raw: Raw, held: np.ndarray, labels: np.ndarray, *, name: str, image_size: int
) -> dict[str, Any]:
    train = raw.count - len(held)
    return {
        "name": name,
        "title": entry.title,
        "licence": entry.licence,
        "homepage": entry.homepage,
        "shape": [raw.count, raw.channels, image_size, image_size],
        "dtype": "uint8",
        "range": RANGE,
        "classes": int(labels.max()) + 1,
        "sha256": {"images": files.sha256(folder / IMAGES), "labels": files.sha256(folder / LABELS)},
        "split": {"train": [0, train], "held_out": [train, raw.count]},
        "transformations": list(raw.transformations),
    }


def _origin(entry: Source, paths: list[Path]) -> list[dict[str, str | None]]:
    """Name and checksum of each file that was read; a folder of images has no checksum."""
    if not entry.files:
        return [
            {"name": p.name, "of": "file", "sha256": files.sha256(p) if p.is_file() else None} for p in paths
        ]
    return [
        {"name": file.name, "of": file.of, file.algorithm: file.digest if path.is_file() else None}
        for file, path in zip(entry.files, paths, strict=True)
    ]
