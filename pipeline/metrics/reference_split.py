"""Which real images samples are scored against, and which other ones are scored beside them as the floor."""

import dataclasses
from typing import Literal

from pipeline.metrics.evaluate import Described
from pipeline.metrics.features import FeatureSpace, Images

Split = Literal["train", "held_out"]
UNSEEN = slice(1, None, 2)
"""The held-out images by which no search judged: those judge by the others, `statistics`' "search"."""


@dataclasses.dataclass(frozen=True)
class Against:
    """Both sides of real images."""

    name: str
    """What `reference` holds: "train", "held_out", or "held_out_unseen", its half that no search saw."""
    reference: Described
    floor: Described
    """At most as many images as there are samples, from the other split: FID(floor, reference) is what
    samples score that are fresh draws of the data's law. Against train these are held-out images: a
    network that repeats its training set scores lower still. Against held-out images they are training
    images, so that such a network scores the floor itself: only the ratios of memorisation tell it."""


def against(
    train: Described,
    held_out: Images,
    space: FeatureSpace,
    split: Split,
    *,
    num_samples: int,
    searched: bool,
) -> Against:
    """The reference that `evaluate.reference` names, and its floor.

    Args:
        train: all training images.
        held_out: all held-out images, uint8 (n, C, H, W).
        num_samples: of the floor at most.
        searched: a search, which judges by half of the held-out images, chose noise levels or sampler:
            of a held-out reference the other half alone is used then, since FID would be too low.
    """
    if split == "train":
        return Against(split, train, Described.by(space, held_out[:num_samples]))
    name, images = ("held_out_unseen", held_out[UNSEEN]) if searched else (split, held_out)
    floor = Described.by(space, train.images[:num_samples])
    return Against(name, Described.by(space, images), floor)
