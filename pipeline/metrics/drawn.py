"""Samples of a row as `generate` wrote them: manifest.json, raw.npy and denoised.npy of samples/ROW."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.files import read_json, sha256
from pipeline.metrics.features import Images
from pipeline.ncsn.errors import UserError

if TYPE_CHECKING:
    from pipeline.ncsn.sampler import Sampler


@dataclass(frozen=True)
class Drawn:
    """Samples of a row as `generate` wrote them: their manifest, and the images on demand."""

    folder: Path
    num_samples: int
    """N, of one set."""
    nfe: Mapping[str, int]
    """Network evaluations for each sample, raw and denoised."""
    sha256: Mapping[str, str]
    """By file name."""
    settings: Mapping[str, Any]
    """Of the sampler, see `sampler`."""
    sample_sets: int = 1
    """Set k is the images k N ... (k + 1) N - 1."""

    @classmethod
    def read(cls, folder: Path) -> "Drawn":
        """The manifest of a folder; raises UserError where it is missing or lacks a key."""
        manifest = read_json(folder / "manifest.json")
        try:
            numbers = {key: manifest[key] for key in ("num_samples", "nfe", "sha256")}
            settings = manifest.get("sampler", {})  # which only the report and a publication need
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{folder / 'manifest.json'} has no key {error}: delete {folder} and run `dvc repro`."
            ) from error
        return cls(folder, **numbers, settings=settings, sample_sets=manifest.get("sample_sets", 1))

    @property
    def sampler(self) -> "Sampler":
        """The sampler that drew them."""
        from pipeline.ncsn.sampler import Sampler  # imports torch, which a table does not need

        return Sampler.read(self.settings)

    def images(self, kind: str) -> Images:
        """raw.npy or denoised.npy, uint8 (K N, C, H, W); raises UserError where it is missing or damaged."""
        path = self.folder / f"{kind}.npy"
        fix = f"delete {self.folder} and run `dvc repro`."
        if not path.is_file():
            raise UserError(f"{path} is missing: {fix}")
        if sha256(path) != self.sha256.get(path.name):
            raise UserError(f"{path} does not have the sha256 that its manifest.json gives: {fix}")
        images: Images = np.load(path, mmap_mode="r", allow_pickle=False)
        return images

    def sets(self, kind: str) -> list[Images]:
        """The images of each set, (N, C, H, W)."""
        images, n = self.images(kind), self.num_samples
        return [images[start : start + n] for start in range(0, self.sample_sets * n, n)]
