"""The real images that a row is scored against, in words, and what its floor is then made of."""

from collections.abc import Mapping
from typing import Any

TRAIN = "train"
FLOOR, TRAIN_FLOOR = "held-out data (the floor)", "training data (the floor)"


def described(block: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """Such as `celeba, test split (19,962 images)`.

    Args:
        block: of an evaluation, with `reference` (`pipeline.metrics.reference_split`) and `n_reference`.
        manifest: of the data set: whether what was held out is its own test split.
    """
    reference, count = block["reference"], f"({block['n_reference']:,} images)"
    if reference == TRAIN:
        return f"{manifest['name']}, train split {count}"
    own = manifest["split"]["held_out_source_rows"] is None
    split = f"{'test' if own else 'held-out'} split"
    if reference == "held_out":
        return f"{manifest['name']}, {split} {count}"
    return f"{manifest['name']}, the half of the {split} that no search judged by {count}"


def is_whole(reference_set: str | None, split: str) -> bool:
    """Whether a reference set is all of a split, "train" or "test"; None counts as train."""
    return f", {split} split (" in (reference_set or ", train split (")


def floor(reference: str) -> str:
    """The name of the floor's row: real images of the other split than the reference's."""
    return FLOOR if reference == TRAIN else TRAIN_FLOOR
