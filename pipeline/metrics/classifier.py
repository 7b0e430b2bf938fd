"""The training of the reference classifier."""

import logging
import time
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from pipeline.metrics.deterministic import exact
from pipeline.metrics.features import Classifier, Images
from pipeline.metrics.network import FeatureNetwork, shift
from pipeline.ncsn.errors import UserError

logger = logging.getLogger(__name__)
LOG_EVERY_S = 5.0


def train_classifier(
    images: Images,
    labels: NDArray[np.int64],
    *,
    width: int,
    epochs: int,
    batch_size: int,
    lr: float,
    seed: int,
) -> Classifier:
    """Train on images uint8 (N, C, H, H) and labels (N,); a function of its arguments, bit for bit.

    AdamW under a one-cycle schedule with peak `lr`; each image moved by at most a pixel, each time
    anew. Whole batches only: the rest of an epoch is left out, another rest in each epoch.

    Raises:
        UserError: labels of fewer than two classes, or fewer images than a batch.
    """
    _check(images, labels, batch_size)
    shape = {
        "channels": images.shape[1],
        "image_size": images.shape[2],
        "num_classes": int(labels.max()) + 1,
        "width": width,
    }
    with exact(seed):
        network = FeatureNetwork(**shape)
        batches = epochs * (len(images) // batch_size)
        optimiser = torch.optim.AdamW(network.parameters(), lr=lr)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=batches)
        for index in _told(_batches(len(images), batch_size, epochs)):
            x, label = torch.from_numpy(images[index]), torch.from_numpy(labels[index])
            loss = F.cross_entropy(network(shift(x, torch.randint(3, (batch_size, 2)))), label)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    classifier = Classifier(network.eval().requires_grad_(False), shape)
    _standardise(classifier, images)
    return classifier


def _batches(num_examples: int, batch_size: int, epochs: int) -> list[NDArray[np.int64]]:
    whole = num_examples - num_examples % batch_size
    epoch = [torch.randperm(num_examples)[:whole].reshape(-1, batch_size) for _ in range(epochs)]
    return list(torch.cat(epoch).numpy())


def _told(batches: list[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
    """The batches; the log says every few seconds how many are done, how fast, and the time left."""
    begun = told = time.monotonic()
    for done, batch in enumerate(batches):
        if done and (now := time.monotonic()) - told >= LOG_EVERY_S:
            told, speed = now, done / (now - begun)
            logger.info(
                "reference classifier: batch %d of %d, %.0f images a second, about %.0f s left",
                *(done, len(batches), speed * len(batch), (len(batches) - done) / speed),
            )
        yield batch


def _check(images: Images, labels: NDArray[np.int64], batch_size: int) -> None:
    if len(np.unique(labels)) < 2:
        raise UserError(
            "the labels name fewer than two classes, so no reference classifier can be trained: "
            "set data.name to a data set with labels."
        )
    if batch_size > len(images):
        raise UserError(
            f"reference.batch_size ({batch_size}) is above the {len(images)} training images: lower it."
        )


def _standardise(classifier: Classifier, images: Images) -> None:
    features = torch.from_numpy(classifier.features(images)).double()
    classifier.network.centre.copy_(features.mean(dim=0))
    classifier.network.scale.copy_(features.var(dim=0, correction=0).mean().sqrt().clamp_min(1e-6))
