"""Feature spaces that samples are judged in: a kind in each module, found by `features.kind`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.files import read_json, sha256, write_json
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.kinds import find

Images = NDArray[np.uint8]
Split = tuple[Images, NDArray[np.int64]]
"""Images uint8 (N, C, H, W) and their labels (N,)."""
CONFIG = "config.json"
Config = Mapping[str, Any]
"""Settings of a saved feature space besides its weights, as JSON: its kind's own."""


class FeatureSpace(Protocol):
    """Feature space: images to feature vectors and class probabilities."""

    @property
    def name(self) -> str:
        """What a table prints as the evaluator, the same on any device."""

    @property
    def device(self) -> str:
        """ "cpu" or "cuda": where it computes; its weights go there when it does."""

    def on(self, device: str) -> Self:
        """The same feature space on a device."""

    def features(self, images: Images) -> NDArray[np.float32]:
        """Images uint8 (N, C, H, W) -> (N, D); raises UserError where they do not fit."""

    def both(self, images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The features and the class probabilities (N, K); K is 0 where it knows no classes."""


class SavedSpace(FeatureSpace, Protocol):
    """Feature space that a folder can hold."""

    def tensors(self) -> bytes:
        """The weights as the bytes of a safetensors file: equal weights, equal bytes."""

    def config(self) -> Config:
        """What else `FeatureKind.load` needs, as JSON."""


@dataclass(frozen=True)
class Built:
    """Feature space that was built, with the accuracies of its classifier, where it has one."""

    space: SavedSpace
    accuracies: Mapping[str, float]


class FeatureKind(Protocol):
    """Settings of a kind of feature space, and how it is built from a data set and loaded from a file.

    A dataclass in a module of this package, or of extensions.features, whose name is the kind.
    """

    def build(self, train: Split, held_out: Split) -> Built:
        """The feature space of a data set; raises UserError where it cannot be had or is not good enough."""

    @classmethod
    def load(cls, weights: Path, config: Config) -> SavedSpace:
        """The feature space from what `SavedSpace.tensors` and `config` gave."""


def save(space: SavedSpace, kind: str, folder: Path) -> None:
    """Write KIND.safetensors, then config.json with the hash of each tensor file in the folder."""
    (folder / f"{kind}.safetensors").write_bytes(space.tensors())
    hashes = {path.name: sha256(path) for path in sorted(folder.glob("*.safetensors"))}
    write_json(folder / CONFIG, {"kind": kind, **space.config(), "sha256": hashes})


def verified(folder: Path, name: str) -> Path:
    """The path of a tensor file whose hash is the one in config.json; raises UserError where it is not."""
    path = folder / name
    fix = f"delete {folder} and run `dvc repro`."
    if not path.is_file():
        raise UserError(f"{path} is missing: {fix}")
    if sha256(path) != read_json(folder / CONFIG).get("sha256", {}).get(name):
        raise UserError(f"{path} does not have the sha256 that {folder / CONFIG} gives: {fix}")
    return path


def load_space(folder: Path) -> SavedSpace:
    """The feature space that `save` wrote; raises UserError where a file is missing, damaged or another's."""
    config: Config = read_json(folder / CONFIG)
    if "kind" not in config:
        raise UserError(f"{folder / CONFIG} names no kind: delete {folder} and run `dvc repro`.")
    kind: type[FeatureKind] = find("features", config["kind"])
    path = verified(folder, f"{config['kind']}.safetensors")
    try:
        return kind.load(path, config)
    except (KeyError, TypeError, RuntimeError) as error:
        raise UserError(
            f"{folder / CONFIG} does not describe {path} ({error}): delete {folder} and run `dvc repro`."
        ) from error
