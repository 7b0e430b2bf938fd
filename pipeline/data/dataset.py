"""A prepared data set, opened: verified against its manifest, then memory-mapped."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline import files
from pipeline.ncsn.errors import UserError

IMAGES, LABELS, MANIFEST = "images.npy", "labels.npy", "manifest.json"
RANGE = "pixel value v stands for v / 255, in [0, 1]"
MEND = (
    "run `python -m pipeline.commands.cache`, which takes what is damaged out of DVC's cache, "
    "and make it anew by `dvc repro -f prepare`"
)
SEAL = "manifest_sha256"
Split = Literal["train", "held_out"]


@dataclass(frozen=True)
class Dataset:
    """A verified data set; nothing is read before it is used."""

    images: np.ndarray
    """uint8 (N, C, H, W), read-only; value v stands for v / 255."""
    labels: np.ndarray
    """int64 (N,), classes from 0."""
    manifest: dict[str, Any]

    @property
    def sha256(self) -> str:
        """Identifies the images, their order and with it the split."""
        return str(self.manifest["sha256"]["images"])

    def split(self, name: Split) -> np.ndarray:
        """The images of one split, uint8 (n, C, H, W); a view, nothing is copied."""
        return self.images[self._rows(name)]

    def split_labels(self, name: Split) -> np.ndarray:
        """The classes of one split, int64 (n,)."""
        return self.labels[self._rows(name)]

    def _rows(self, name: Split) -> slice:
        start, stop = self.manifest["split"][name]
        return slice(start, stop)


def seal(manifest: dict[str, Any]) -> dict[str, Any]:
    """Add the checksum of the manifest itself, in place; a bit may flip there too."""
    manifest[SEAL] = _digest(manifest)
    return manifest


def _digest(manifest: dict[str, Any]) -> str:
    content = {key: value for key, value in manifest.items() if key != SEAL}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def open_dataset(folder: Path) -> Dataset:
    """Open what `prepare` wrote.

    Raises:
        UserError: naming the file that is missing or differs from what was written, and the mend.
    """
    manifest = read_manifest(folder / MANIFEST)
    for key, name in (("images", IMAGES), ("labels", LABELS)):
        _verify(folder / name, manifest["sha256"][key])
    images = np.load(folder / IMAGES, mmap_mode="r", allow_pickle=False)
    return Dataset(images, np.load(folder / LABELS, allow_pickle=False), manifest)


def read_manifest(path: Path) -> dict[str, Any]:
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
    if not isinstance(manifest, dict) or manifest.get(SEAL) != _digest(manifest):
        raise UserError(f"{path} is not what `prepare` wrote: {MEND}.")
    return manifest


def _verify(path: Path, expected: str) -> None:
    if not path.is_file():
        raise UserError(f"{path} is missing: {MEND}.")
    if files.sha256(path) != expected:
        raise UserError(f"{path} is corrupt (its sha256 is not the manifest's): {MEND}.")
