"""The numbers of one variant: its samples, raw and denoised, beside the floor."""

from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from pipeline.files import read_json, sha256
from pipeline.metrics.evaluate import Described, evaluate, evaluator
from pipeline.metrics.features import FeatureSpace, Images
from pipeline.metrics.memorisation import Points, distance_ratio, nearest
from pipeline.metrics.reference_split import Split, against
from pipeline.ncsn.errors import UserError

HEADLINE = ("fid", "kid", "kid_std", "inception_score", "precision", "recall", "density", "coverage")
SHOWN, NEIGHBOURS = 8, 5
"""Samples whose nearest training images are named, and how many of these."""


class Settings(TypedDict):
    """The keyword arguments of `evaluate`."""

    nearest_k: int
    kid_subsets: int
    kid_subset_size: int
    splits: int
    fid_points: int
    seed: int


def evaluate_variant(
    folder: Path,
    train: Images,
    held_out: Images,
    classifier: FeatureSpace,
    *,
    reference: Split,
    searched: bool,
    **settings: Unpack[Settings],
) -> dict[str, Any]:
    """Evaluate samples/<variant>/{raw,denoised}.npy against one split, with images of the other as the floor.

    Args:
        folder: what `generate` wrote: raw.npy, denoised.npy (uint8 (K N, C, H, W)) and manifest.json with
            num_samples N, sets K, nfe and the sha256 of each file. Set k is images k N ... (k + 1) N - 1.
        train, held_out: uint8 (n, C, H, W).
        reference, searched: see `against`.

    Returns:
        raw, denoised, floor: the dicts of `evaluate`, `evaluator` and `reference` (`Against.name`), the
        floor's of the first N images of the other split (of all, where they are fewer), the others of the
        first set and with memorisation_pixels and memorisation_features (`distance_ratio`, of training
        images whatever the reference); nfe {raw, denoised}, num_samples; further_sets {raw, denoised}: lists
        of such dicts of the other sets, each scored alone; neighbours {pixels, features}: for each of the
        first 8 denoised samples the indices of the 5 nearest training images, the nearest first.

    Raises:
        UserError: a missing or damaged file, or what `evaluate` raises.
    """
    manifest = read_json(folder / "manifest.json")
    sets = {kind: _sets(read_samples(folder, kind, manifest), manifest) for kind in ("raw", "denoised")}
    rows = {kind: Described.by(classifier, first) for kind, (first, *_) in sets.items()}
    trained, count = Described.by(classifier, train), manifest["num_samples"]
    real = against(trained, held_out, classifier, reference, num_samples=count, searched=searched)
    fresh = real.floor if reference == "train" else Described.by(classifier, held_out[:count])
    names = {"evaluator": evaluator(classifier), "reference": real.name}

    def scored(row: Described) -> dict[str, Any]:
        return evaluate(row, real.reference, **settings) | names

    usual = _distances(fresh, trained)

    def drawn(row: Described) -> dict[str, Any]:
        ratios = {
            f"memorisation_{space}": distance_ratio(near, usual[space], seed=settings["seed"])
            for space, near in _distances(row, trained).items()
        }
        return scored(row) | ratios

    return {
        **{key: drawn(row) for key, row in rows.items()},
        "floor": scored(real.floor),
        "further_sets": {
            kind: [drawn(Described.by(classifier, images)) for images in others]
            for kind, (_, *others) in sets.items()
        },
        **{key: manifest[key] for key in ("nfe", "num_samples")},
        "neighbours": _neighbours(rows["denoised"], trained),
    }


def _sets(images: Images, manifest: dict[str, Any]) -> list[Images]:
    count = manifest["num_samples"]
    return [images[start : start + count] for start in range(0, manifest.get("sets", 1) * count, count)]


def _spaces(row: Described) -> dict[str, Points]:
    return {"pixels": row.images, "features": row.features}


def _distances(row: Described, trained: Described) -> dict[str, NDArray[np.float64]]:
    """(n,) from each image to the nearest training image, in pixels and in features."""
    pairs = zip(_spaces(row).items(), _spaces(trained).values(), strict=True)
    return {space: nearest(x, train, k=1)[0][:, 0] for (space, x), train in pairs}


def _neighbours(samples: Described, trained: Described) -> dict[str, list[list[int]]]:
    k = min(NEIGHBOURS, len(trained.images))
    pairs = zip(_spaces(samples).items(), _spaces(trained).values(), strict=True)
    return {space: nearest(x[:SHOWN], train, k=k)[1].tolist() for (space, x), train in pairs}


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
