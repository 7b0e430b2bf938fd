"""Reference split: which real images samples are scored against, and which others give the floor."""

import dataclasses
from typing import Literal, Protocol

from pipeline.metrics.features import FeatureSpace, Images
from pipeline.metrics.inputs import Described

UNSEEN = slice(1, None, 2)
"""The held-out images by which no search judged: those judge by the others, `statistics`' "search"."""


class SplitSettings(Protocol):
    """Section `evaluate` of params.yaml."""

    @property
    def reference(self) -> Literal["train", "held_out"]:
        """The split that samples are scored against."""


@dataclasses.dataclass(frozen=True)
class ReferenceSplit:
    """Both sides of real images."""

    name: str
    """What `reference` holds: "train", "held_out", or "held_out_unseen", its half that no search saw."""
    reference: Described
    floor: Described
    """At most as many images as there are samples, from the other split.

    FID(floor, reference) is what fresh draws of the data's distribution score. Against train these are
    held-out images: a network that repeats its training set scores lower still. Against held-out images they
    are training images, so that such a network scores the floor: only the ratios of memorisation show it."""


def reference_split(
    train: Described,
    held_out: Images,
    space: FeatureSpace,
    settings: SplitSettings,
    *,
    num_samples: int,
    searched: bool,
) -> ReferenceSplit:
    """The reference that `evaluate.reference` names, and its floor.

    Args:
        train: all training images.
        held_out: all held-out images, uint8 (n, C, H, W).
        num_samples: of the floor at most.
        searched: whether a search chose noise levels or sampler. It judges by half of the held-out images, so
            that FID against them would be too low: of a held-out reference the other half alone is used.
    """
    if settings.reference == "train":
        return ReferenceSplit("train", train, Described.by(space, held_out[:num_samples]))
    name, images = ("held_out_unseen", held_out[UNSEEN]) if searched else ("held_out", held_out)
    floor = Described.by(space, train.images[:num_samples])
    return ReferenceSplit(name, Described.by(space, images), floor)
