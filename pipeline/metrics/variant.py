"""The numbers of one variant: its samples, raw and denoised, beside the floor."""

from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np

from pipeline.errors import UserError
from pipeline.files import read_json, sha256
from pipeline.metrics.evaluate import evaluate
from pipeline.metrics.features import Classifier, Images

HEADLINE = ("fid", "kid", "kid_std", "inception_score", "precision", "recall", "density", "coverage")


class Settings(TypedDict):
    """The keyword arguments of `evaluate`."""

    nearest_k: int
    kid_subsets: int
    kid_subset_size: int
    splits: int
    seed: int


def evaluate_variant(
    folder: Path, train: Images, held_out: Images, classifier: Classifier, **settings: Unpack[Settings]
) -> dict[str, Any]:
    """Evaluate samples/<variant>/{raw,denoised}.npy against `train`, and `held_out` as the floor.

    Args:
        folder: what `generate` wrote: raw.npy, denoised.npy (uint8 (K N, C, H, W)) and manifest.json with
            num_samples N, sets K, nfe and the sha256 of each file. Set k is images k N ... (k + 1) N - 1.
        train, held_out: uint8 (n, C, H, W).

    Returns:
        raw, denoised: the dicts of `evaluate` on the first set; floor; nfe {raw, denoised}, num_samples;
        further_sets {raw, denoised}: lists of the dicts of the others, each set scored alone.

    Raises:
        UserError: a missing or damaged file, or what `evaluate` raises.
    """
    manifest = read_json(folder / "manifest.json")
    sets = {kind: _sets(read_samples(folder, kind, manifest), manifest) for kind in ("raw", "denoised")}
    rows = {kind: first for kind, (first, *_) in sets.items()} | {"floor": held_out}
    metrics = {name: evaluate(images, train, classifier, **settings) for name, images in rows.items()}
    further = {
        kind: [evaluate(images, train, classifier, **settings) for images in others]
        for kind, (_, *others) in sets.items()
    }
    return {
        **metrics,
        "further_sets": further,
        **{key: manifest[key] for key in ("nfe", "num_samples")},
    }


def _sets(images: Images, manifest: dict[str, Any]) -> list[Images]:
    count = manifest["num_samples"]
    return [images[start : start + count] for start in range(0, manifest.get("sets", 1) * count, count)]


def headline(metrics: dict[str, Any]) -> dict[str, dict[str, float]]:
    """What DVC compares of `evaluate_variant`'s result: for raw and denoised a flat dict of a few numbers."""
    return {
        kind: {key: metrics[kind][key] for key in HEADLINE} | {"nfe": metrics["nfe"][kind]}
        for kind in ("raw", "denoised")
    }


def read_samples(folder: Path, kind: str, manifest: dict[str, Any]) -> Images:
    """Read `kind`.npy, uint8 (N, C, H, W); raises UserError where it is missing or not what was written."""
    path = folder / f"{kind}.npy"
    mend = f"delete {folder} and run `dvc repro`."
    if not path.is_file():
        raise UserError(f"{path} is missing: {mend}")
    if sha256(path) != manifest["sha256"].get(path.name):
        raise UserError(f"{path} does not have the sha256 that its manifest.json gives: {mend}")
    images: Images = np.load(path, mmap_mode="r", allow_pickle=False)
    return images
