"""The nearest training images of the first samples: Figs 9 and 10 of the 2019 paper."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline.files import read_json
from pipeline.ncsn.errors import UserError
from pipeline.reporting import grids
from pipeline.reporting.figure_entry import Picture, Shown, keep
from pipeline.reporting.grids import Group, Images

SPACES = {"pixels": "nearest in pixels", "features": "nearest in features"}
CAPTION = (
    "The first denoised samples, and the training images nearest to each by the Euclidean distance, the "
    "nearest first: a network that had learnt its data by heart would repeat them. (Figs 9 and 10 of arXiv "
    "1907.05600.)"
)


def shown(folder: Path, artifacts: Path, variants: Sequence[str], train: Images) -> Iterator[Shown]:
    """The figure, a picture for each variant; none where no evaluation holds neighbours.

    Args:
        train: the training images, uint8 (n, C, H, W), that the indices count.

    Raises:
        UserError: neighbours that are no indices of training images.
    """
    found = tuple(_picture(folder, artifacts, variant, train) for variant in variants)
    if made := tuple(picture for picture in found if picture):
        yield Shown("Nearest training images", CAPTION, "dvc repro evaluate", made)


def _picture(folder: Path, artifacts: Path, variant: str, train: Images) -> Picture | None:
    path = artifacts / f"evaluation/{variant}.json"
    nearest = read_json(path).get("neighbours") if path.exists() else None
    if not nearest:
        return None
    indices = {space: _indices(nearest, space, path, len(train)) for space in SPACES}
    samples = np.load(artifacts / f"samples/{variant}/denoised.npy", mmap_mode="r", allow_pickle=False)
    count = min(len(samples), *(len(rows) for rows in indices.values()))
    groups = [Group("sample", samples[:count, None])]
    groups += [Group(title, train[indices[space][:count]]) for space, title in SPACES.items()]
    return keep(grids.groups(groups), folder, f"neighbours_{variant}", label=variant)


def _indices(nearest: object, space: str, path: Path, count: int) -> np.ndarray:
    try:
        found = np.array(nearest[space])  # type: ignore[index]
        if found.ndim == 2 and found.dtype.kind == "i" and found.min() >= 0 and found.max() < count:
            return found
    except (KeyError, TypeError, ValueError):
        pass
    raise UserError(
        f"{path}: neighbours.{space} does not hold rows of indices of the {count:,} training images: "
        "delete it and run `dvc repro`."
    )
