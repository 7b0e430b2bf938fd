"""Prepared data set: its manifest, verified, and its arrays, memory-mapped."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NotRequired, TypedDict, cast

import numpy as np

from pipeline import files
from pipeline.ncsn.errors import UserError

IMAGES, LABELS, MANIFEST = "images.npy", "labels.npy", "manifest.json"
RANGE = "pixel value v stands for v / 255, in [0, 1]"
FIX = (
    "run `python -m pipeline.commands.cache`, which removes damaged files from DVC's cache, then `dvc repro -f prepare`"
)
Split = Literal["train", "held_out"]


class Hashes(TypedDict):
    """SHA-256 of the two array files."""

    images: str
    """Identifies the data set: the images, their order and with it the split."""
    labels: str


class SplitBounds(TypedDict):
    """Row range of each split, end excluded, and how the held-out rows were chosen."""

    train: list[int]
    held_out: list[int]
    seed: int | None
    held_out_source_rows: list[int] | None
    """Rows of the source; None: the data set's own test split."""


class Duplicates(TypedDict):
    """Numbers of equal images, byte for byte."""

    train: int
    """Images that repeat an earlier one of the split."""
    held_out: int
    held_out_in_train: int


class SourceFile(TypedDict):
    """File that the images were read from."""

    name: str
    of: Literal["content", "file"]
    sha256: str | None
    """None of a folder of images."""


class Manifest(TypedDict):
    """Manifest of a prepared data set: manifest.json, as `prepare` writes it."""

    name: str
    title: str
    licence: str
    homepage: str
    shape: list[int]
    """N, C, H, W."""
    dtype: str
    range: str
    sha256: Hashes
    split: SplitBounds
    transformations: list[str]
    classes: int
    duplicates: Duplicates
    max_pairwise_distance: float | None
    """Largest distance of two training images, pixels in [0, 1] (technique 1 of NCSNv2); None of one image."""
    source: list[SourceFile]
    manifest_sha256: NotRequired[str]
    """Of all other keys as JSON: a bit may flip in the manifest too."""


@dataclass(frozen=True)
class Dataset:
    """A verified data set; nothing is read before it is used."""

    images: np.ndarray
    """uint8 (N, C, H, W), read-only; value v stands for v / 255."""
    labels: np.ndarray
    """int64 (N,), classes from 0."""
    manifest: Manifest

    @property
    def sha256(self) -> str:
        """Identifies the images, their order and with it the split."""
        return self.manifest["sha256"]["images"]

    def split(self, name: Split) -> np.ndarray:
        """The images of one split, uint8 (n, C, H, W); a view, nothing is copied."""
        return self.images[self._rows(name)]

    def split_labels(self, name: Split) -> np.ndarray:
        """The classes of one split, int64 (n,)."""
        return self.labels[self._rows(name)]

    def _rows(self, name: Split) -> slice:
        start, stop = self.manifest["split"][name]
        return slice(start, stop)


def seal(manifest: Manifest) -> Manifest:
    """Add the checksum of the manifest itself, in place."""
    manifest["manifest_sha256"] = _digest(manifest)
    return manifest


def _digest(manifest: Manifest) -> str:
    content = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def open_dataset(folder: Path) -> Dataset:
    """Open what `prepare` wrote.

    Raises:
        UserError: naming the file that is missing or differs from what was written and the fix.
    """
    manifest = read_manifest(folder / MANIFEST)
    _verify(folder / IMAGES, manifest["sha256"]["images"])
    _verify(folder / LABELS, manifest["sha256"]["labels"])
    images = np.load(folder / IMAGES, mmap_mode="r", allow_pickle=False)
    return Dataset(images, np.load(folder / LABELS, allow_pickle=False), manifest)


def read_manifest(path: Path) -> Manifest:
    """The manifest of a prepared data set, verified.

    Raises:
        UserError: it is missing, or differs from what was written.
    """
    try:
        manifest = files.read_json(path)
    except UserError:
        if not path.is_file():
            raise
        manifest = None
    if not isinstance(manifest, dict) or manifest.get("manifest_sha256") != _digest(cast(Manifest, manifest)):
        raise UserError(f"{path} is not what `prepare` wrote: {FIX}.")
    return cast(Manifest, manifest)


def _verify(path: Path, expected: str) -> None:
    if not path.is_file():
        raise UserError(f"{path} is missing: {FIX}.")
    if files.sha256(path) != expected:
        raise UserError(f"{path} is corrupt (its sha256 is not the manifest's): {FIX}.")
