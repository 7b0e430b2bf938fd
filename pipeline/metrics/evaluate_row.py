"""Evaluation of a row: the measures of its samples, raw and denoised, with the floor next to them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import nn

from pipeline.files import read_json, sha256
from pipeline.metrics.features import FeatureSpace, Images
from pipeline.metrics.inputs import (
    UNSEEN,
    Described,
    EvaluateSettings,
    ImageInputs,
    NetworkInputs,
    SampleInputs,
    SplitSettings,
    nearest_distances,
    reference_split,
)
from pipeline.metrics.measures import compute, results
from pipeline.metrics.neighbours import nearest
from pipeline.ncsn.errors import UserError

SHOWN, NEIGHBOURS = 8, 5
"""Samples whose nearest training images are named, and how many of these."""
Evaluation = dict[str, Any]
"""As JSON: see `evaluate_row`."""


class RowSettings(EvaluateSettings, SplitSettings, Protocol):
    """Section `evaluate` of params.yaml."""


@dataclass(frozen=True)
class Drawn:
    """Samples of a row as `generate` wrote them."""

    folder: Path
    num_samples: int
    """N, of one set."""
    nfe: Mapping[str, int]
    """Network evaluations for each sample, raw and denoised."""
    sha256: Mapping[str, str]
    """By file name."""
    sample_sets: int = 1
    """Set k is the images k N ... (k + 1) N - 1."""

    @classmethod
    def read(cls, folder: Path) -> "Drawn":
        """The manifest of a folder; raises UserError where it is missing or lacks a key."""
        manifest = read_json(folder / "manifest.json")
        try:
            numbers = {key: manifest[key] for key in ("num_samples", "nfe", "sha256")}
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{folder / 'manifest.json'} has no key {error}: delete {folder} and run `dvc repro`."
            ) from error
        return cls(folder, **numbers, sample_sets=manifest.get("sample_sets", manifest.get("sets", 1)))

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


def evaluate_row(
    folder: Path,
    train: Images,
    held_out: Images,
    space: FeatureSpace,
    network: nn.Module,
    settings: RowSettings,
    *,
    searched: bool,
    device: str = "cpu",
) -> Evaluation:
    """Evaluate samples/ROW/{raw,denoised}.npy against one split, with images of the other as the floor.

    Args:
        folder: what `generate` wrote: see `Drawn`.
        train, held_out: uint8 (n, C, H, W).
        network: that the samples were drawn with, for the measures of a network.
        searched: see `reference_split`.

    Returns:
        raw, denoised, floor: what `evaluate` gives, `evaluator` and `reference` (`ReferenceSplit.name`); the
        floor's of the first N images of the other split (of all, where they are fewer), the others of the
        first set and with the measures of samples; nfe {raw, denoised}, num_samples; further_sets {raw,
        denoised}: lists of such dicts of the other sets, each scored alone; neighbours {pixels, features}:
        for each of the first 8 denoised samples the indices of the 5 nearest training images, the nearest
        first; the measures of the network.

    Raises:
        UserError: a missing or damaged file, or what `evaluate` raises.
    """
    drawn = Drawn.read(folder)
    sets = {kind: drawn.sets(kind) for kind in ("raw", "denoised")}
    first = {kind: Described.by(space, images) for kind, (images, *_) in sets.items()}
    trained, count = Described.by(space, train), drawn.num_samples
    real = reference_split(trained, held_out, space, settings, num_samples=count, searched=searched)
    fresh = real.floor if settings.reference == "train" else Described.by(space, held_out[:count])
    fresh_distances = nearest_distances(fresh, trained)
    names = {"evaluator": evaluator(space), "reference": real.name}

    def scored(images: Described) -> Evaluation:
        inputs = SampleInputs(images, real.reference, settings, trained, fresh_distances)
        return evaluate(inputs) | names | compute("samples", inputs)

    return {
        **{kind: scored(images) for kind, images in first.items()},
        "floor": evaluate(ImageInputs(real.floor, real.reference, settings)) | names,
        "further_sets": {
            kind: [scored(Described.by(space, images)) for images in others]
            for kind, (_, *others) in sets.items()
        },
        "nfe": drawn.nfe,
        "num_samples": count,
        "neighbours": _neighbours(first["denoised"], trained),
        **compute("network", NetworkInputs(network, held_out[UNSEEN], settings, device)),
    }


def evaluate(inputs: ImageInputs) -> Evaluation:
    """n images against m reference images: the measures of images (`pipeline.metrics.measures`), n and m.

    The floor is this call on other real images than the reference's: what a perfect model would score with as
    many samples.

    Raises:
        UserError: too few images for one of the numbers, named by its key in params.yaml.
    """
    n, n_reference = len(inputs.images.features), len(inputs.reference.features)
    _check_sizes(n, n_reference, inputs.settings)
    return compute("images", inputs) | {"n": n, "n_reference": n_reference}


def evaluator(space: FeatureSpace) -> str:
    """What computed each number, and in which feature space."""
    return f"{space.name}; FID, KID, IS (unshuffled splits), precision to coverage: this project"


def _check_sizes(n: int, n_reference: int, settings: EvaluateSettings) -> None:
    fewest = min(n, n_reference)
    limits = {
        "evaluate.kid_subset_size": (settings.kid_subset_size, fewest),
        "evaluate.nearest_k": (settings.nearest_k, fewest - 1),
        "evaluate.splits": (settings.splits, n),
    }
    for key, (value, limit) in limits.items():
        if value > limit:
            raise UserError(
                f"{key} ({value}) is too large for {n} samples against {n_reference} reference images: "
                f"set it to {limit} or less, or raise generate.num_samples."
            )
    if settings.kid_subset_size < 2:
        raise UserError("evaluate.kid_subset_size (1) leaves no unbiased estimate: set it to 2 or more.")


def _neighbours(samples: Described, trained: Described) -> dict[str, list[list[int]]]:
    k = min(NEIGHBOURS, len(trained.images))
    pairs = zip(samples.spaces.items(), trained.spaces.values(), strict=True)
    return {space: nearest(x[:SHOWN], train, k=k)[1].tolist() for (space, x), train in pairs}


def headline(evaluation: Evaluation) -> dict[str, dict[str, float | None]]:
    """What DVC compares of an evaluation: of raw and denoised the measures of the first table, and NFE."""
    keys = [key for one in results() if one.of != "network" for key in (one.needed() or (one.name,))]
    return {
        kind: {key: evaluation[kind][key] for key in keys} | {"nfe": evaluation["nfe"][kind]}
        for kind in ("raw", "denoised")
    }
