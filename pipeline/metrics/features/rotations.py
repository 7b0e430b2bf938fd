"""Feature space without labels: of a classifier that tells by how many quarters an image was turned.

S. Gidaris, P. Singh, N. Komodakis, "Unsupervised Representation Learning by Predicting Image Rotations",
arXiv 1803.07728. It needs no labels, no colour and no download. Where images have no upright position, such as
textures or cells under a microscope, there is nothing to tell, and `min_accuracy` refuses it.
"""

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.features import Built, Config, Images, Split
from pipeline.metrics.features.classifier import Classifier, ClassifierSpace, train_classifier
from pipeline.ncsn.errors import UserError

QUARTERS = 4


@dataclasses.dataclass(frozen=True)
class Rotations:
    """A small network trained to tell turned images apart; its penultimate layer is the feature space."""

    width: int
    epochs: int
    """Passes over all images in all four positions."""
    batch_size: int
    lr: float
    seed: int
    min_accuracy: float
    """On the turned held-out images, of which chance tells 0.25; below it the stage fails."""

    def __post_init__(self) -> None:
        self._classifier()

    def build(self, train: Split, held_out: Split) -> Built:
        """Train on the train split without its labels; raises UserError below `min_accuracy` on the held-out split."""
        space = train_classifier(turned(train[0]), self._classifier())
        accuracy = space.accuracy(*turned(held_out[0]))
        if accuracy < self.min_accuracy:
            raise UserError(
                f"the position of {accuracy:.4f} of the turned held-out images is told, below features.min_accuracy "
                f"({self.min_accuracy}): raise features.epochs, or, where images have no upright position, sort them "
                "into folders, one a class, for features.kind classifier, or set it to inception or dinov2, for colour."
            )
        return Built(RotationSpace(space.network, space.shape, accuracy), {"rotation_accuracy": accuracy})

    def _classifier(self) -> Classifier:
        return Classifier(**vars(self))

    @classmethod
    def load(cls, weights: Path, config: Config) -> "RotationSpace":
        """The trained network; raises KeyError, TypeError or RuntimeError where `config` is another's."""
        found = Classifier.load(weights, config)
        return RotationSpace(found.network, found.shape, found.held_out_accuracy)


class RotationSpace(ClassifierSpace):
    """Features (N, 64) of a network that tells turned images apart; no classes, so there is no inception score."""

    def both(self, images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Images uint8 (N, C, H, W) -> `features` and (N, 0): it knows no classes."""
        return self.features(images), np.empty((len(images), 0), np.float32)

    @property
    def name(self) -> str:
        """What a table prints as the evaluator."""
        return f"trained without labels to tell rotations: {super().name}"


def turned(images: Images) -> Split:
    """Images (N, C, H, H) in their four positions, (4 N, C, H, H), labelled by the quarters of a turn."""
    positions = [np.rot90(images, quarters, axes=(2, 3)) for quarters in range(QUARTERS)]
    return np.concatenate(positions), np.repeat(np.arange(QUARTERS), len(images))
