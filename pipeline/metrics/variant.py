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
        folder: what `generate` wrote: raw.npy, denoised.npy (uint8 (N, C, H, W)) and manifest.json with
            nfe and the sha256 of each file.
        train, held_out: uint8 (N, C, H, W).

    Returns:
        raw, denoised, floor: the dicts of `evaluate`; nfe {raw, denoised}, num_samples.

    Raises:
        UserError: a missing or damaged file, or what `evaluate` raises.
    """
    manifest = read_json(folder / "manifest.json")
    rows = {kind: read_samples(folder, kind, manifest) for kind in ("raw", "denoised")}
    rows["floor"] = held_out
    metrics = {name: evaluate(images, train, classifier, **settings) for name, images in rows.items()}
    return {**metrics, **{key: manifest[key] for key in ("nfe", "num_samples")}}


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
