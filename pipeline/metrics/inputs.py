"""Inputs of the measures: images with their features, the reference split, settings, the network."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.metrics.distances import Points, Values
from pipeline.metrics.features import FeatureSpace, Images
from pipeline.metrics.fid import Moments, moments, standard_error
from pipeline.metrics.neighbours import nearest, radii

Distances = Mapping[str, NDArray[np.float64]]
"""By space, "pixels" or "features": (n,) from each image to the nearest training image."""

UNSEEN = slice(1, None, 2)
"""The held-out images by which no search judged: those judge by the others, the moments "search"."""


class LikelihoodSettings(Protocol):
    """Settings of bits per dimension: section `evaluate.likelihood` of params.yaml."""

    num_images: int
    num_levels: int


class EvaluateSettings(Protocol):
    """Settings of the measures: section `evaluate` of params.yaml."""

    nearest_k: int
    """Neighbours in precision, recall, density and coverage."""
    kid_subsets: int
    kid_subset_size: int
    splits: int
    """Of the inception score."""
    fid_points: int
    """Numbers of samples behind FID at infinity."""
    seed: int
    """Of subsets, bootstraps and the noise of the likelihood."""

    @property
    def likelihood(self) -> LikelihoodSettings:
        """Of bits per dimension."""


@dataclasses.dataclass(frozen=True)
class Described:
    """Images with their features and class probabilities: computed once, measured often."""

    images: Images
    features: NDArray[np.float32]
    """(n, D)."""
    probabilities: NDArray[np.float32]
    """(n, K), each row of sum 1; K 0 where the feature space knows no classes."""
    _radii: dict[int, Values] = dataclasses.field(default_factory=dict, repr=False)

    @functools.cached_property
    def moments(self) -> Moments:
        """Of the features; raises UserError for n < 2."""
        return moments(self.features)

    def radii(self, nearest_k: int) -> Values:
        """(n,): the distance of each image's features to their k-th nearest neighbour."""
        if nearest_k not in self._radii:
            self._radii[nearest_k] = radii(self.features, nearest_k)
        return self._radii[nearest_k]

    @property
    def spaces(self) -> dict[str, Points]:
        """The images as points of each space in which neighbours are looked for."""
        return {"pixels": self.images, "features": self.features}

    @classmethod
    def by(cls, space: FeatureSpace, images: Images) -> "Described":
        """Images uint8 (n, C, H, W); raises UserError where the feature space cannot take them."""
        return cls(images, *space.both(images))


def nearest_distances(images: Described, training: Described) -> Distances:
    """Distances from images to the training set, in pixels and in features."""
    pairs = zip(images.spaces.items(), training.spaces.values(), strict=True)
    return {space: nearest(x, train, k=1)[0][:, 0] for (space, x), train in pairs}


@dataclasses.dataclass(frozen=True)
class ImageInputs:
    """Inputs of a measure of images against real ones: of samples, and of the floor."""

    images: Described
    reference: Described
    settings: EvaluateSettings

    @functools.cached_property
    def fid_stderr(self) -> float:
        """The standard error of FID from the choice of these images."""
        return standard_error(self.images.features, self.reference.moments, self.images.moments)


@dataclasses.dataclass(frozen=True)
class SampleInputs(ImageInputs):
    """Inputs of a measure of samples alone, which a floor of real images has not."""

    training: Described
    """All training images, whatever the reference."""
    fresh_distances: Distances
    """From held-out images to the training images."""

    @functools.cached_property
    def distances(self) -> Distances:
        """From the samples to the training images."""
        return nearest_distances(self.images, self.training)


@dataclasses.dataclass(frozen=True)
class NetworkInputs:
    """Inputs of a measure of a network, not of its samples."""

    network: nn.Module
    """In evaluation mode, called as network(x, sigma)."""
    held_out: Images
    """By which no search judged."""
    settings: EvaluateSettings
    device: str = "cpu"


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


def spread(images: Images, count: int) -> Images:
    """At most so many of images, (n, C, H, W), evenly over their order: the first ones of a folder that is sorted
    by class would be of a few classes."""
    if len(images) <= count:
        return images
    return np.asarray(images[np.arange(count) * len(images) // count])


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
        return ReferenceSplit("train", train, Described.by(space, spread(held_out, num_samples)))
    name, images = ("held_out_unseen", held_out[UNSEEN]) if searched else ("held_out", held_out)
    floor = Described.by(space, spread(train.images, num_samples))
    return ReferenceSplit(name, Described.by(space, images), floor)
