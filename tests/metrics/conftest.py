"""The digits, split once, and one classifier for all tests of this folder."""

from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from pipeline.metrics.features.classifier import Classifier, ClassifierSpace, train_classifier
from pipeline.metrics.features.inception import without_torchvision

with without_torchvision():  # before a test imports it where torchvision is broken
    import torchmetrics.image.kid  # noqa: F401


class Digits(NamedTuple):
    train: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    held_out: NDArray[np.uint8]
    held_out_labels: NDArray[np.int64]


@pytest.fixture(scope="session")
def digits() -> Digits:
    raw = load_digits()
    images = np.round(raw.images * 255 / 16).astype(np.uint8)[:, None]
    order = np.random.default_rng(0).permutation(len(images))
    train, held_out = order[:1077], order[1077:]
    return Digits(images[train], raw.target[train], images[held_out], raw.target[held_out])


@pytest.fixture(scope="session")
def classifier(digits: Digits) -> ClassifierSpace:
    settings = Classifier(width=16, epochs=10, batch_size=64, lr=2e-3, seed=0, min_accuracy=0.5)
    return train_classifier((digits.train, digits.train_labels), settings)
