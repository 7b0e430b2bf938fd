"""Classifier of a data set, whose penultimate layer is a feature space: for data no public network fits."""

import dataclasses
import hashlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.files import at_home
from pipeline.metrics.deterministic import exact, exact_on
from pipeline.metrics.features import Built, Config, Images, Split, _pinned
from pipeline.ncsn import eager
from pipeline.ncsn.errors import UserError

logger = logging.getLogger(__name__)
NUM_FEATURES = 64
LOG_EVERY_S = 5.0
_ROOT = Path(__file__).parents[3]  # of the repository, which `weights` may be relative to
_CHUNK = 500  # images in one forward pass; fixed, since it is part of what fixes the bits


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A small network trained on the data set's labels; its penultimate layer is the feature space."""

    width: int
    epochs: int
    batch_size: int
    lr: float
    seed: int
    min_accuracy: float
    """On the held-out images; below it the stage fails."""
    weights: str | None = None
    """A pinned classifier, see `pipeline.metrics.features._pinned`; None: train one by the fields above.
    Relative to the repository's root."""
    sha256: str | None = None
    """Of that file."""

    def __post_init__(self) -> None:
        for name in ("width", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} ({getattr(self, name)}) is too small: set it to 1 or more.")
        if self.lr <= 0:
            raise UserError(f"lr ({self.lr}) is not positive: set it to about 2e-3.")
        if self.seed < 0:
            raise UserError(f"seed ({self.seed}) is negative: set it to 0 or more.")
        if not 0 <= self.min_accuracy <= 1:
            raise UserError(f"min_accuracy ({self.min_accuracy}) is no share: set it between 0 and 1.")
        if (self.weights is None) != (self.sha256 is None):
            raise UserError("give both of weights and sha256, or null for both, to train a classifier.")

    def build(self, train: Split, held_out: Split) -> Built:
        """The pinned classifier, or one trained on the train split.

        Raises:
            UserError: below `min_accuracy` on the held-out split; a pinned file that is missing, damaged or of
                other images.
        """
        space = self._pinned(train[0]) if self.weights else train_classifier(train, self)
        accuracy = space.accuracy(*held_out)
        if accuracy < self.min_accuracy:
            raise UserError(
                f"the classifier is right on {accuracy:.4f} of the held-out images, below "
                f"features.min_accuracy ({self.min_accuracy}): raise features.epochs or features.width, "
                "or lower the bound."
            )
        accuracies = {"train_accuracy": space.accuracy(*train), "held_out_accuracy": accuracy}
        return Built(ClassifierSpace(space.network, space.shape, accuracy), accuracies)

    def _pinned(self, images: Images) -> "ClassifierSpace":
        state, shape = _pinned.read(_ROOT / at_home(str(self.weights)), str(self.sha256), images)
        network = FeatureNetwork(**shape)
        network.load_state_dict(state)
        return ClassifierSpace(network.eval().requires_grad_(False), shape)

    @classmethod
    def load(cls, weights: Path, config: Config) -> "ClassifierSpace":
        """The trained classifier; raises KeyError, TypeError or RuntimeError where `config` is another's."""
        network = FeatureNetwork(**config["shape"])
        network.load_state_dict(safetensors.torch.load_file(weights))
        return ClassifierSpace(network.eval().requires_grad_(False), config["shape"], config["held_out_accuracy"])


class ClassifierSpace:
    """Feature space of a trained classifier, with what names it in a table."""

    def __init__(
        self,
        network: "FeatureNetwork",
        shape: dict[str, int],
        held_out_accuracy: float | None = None,
        device: str = "cpu",
    ) -> None:
        """
        Args:
            shape: the keyword arguments of `FeatureNetwork`.
            device: where it computes; the network is moved there on first use.
        """
        self.network, self.shape = network, shape
        self.held_out_accuracy, self.device = held_out_accuracy, device

    def on(self, device: str) -> Self:
        """The same network, moved to the device on first use."""
        if device == self.device:
            return self
        return type(self)(self.network, self.shape, self.held_out_accuracy, device)

    def features(self, images: Images) -> NDArray[np.float32]:
        """Images uint8 (N, C, H, W) -> (N, 64); raises UserError where they do not fit the network."""
        return self._chunks(images, "features")

    def probabilities(self, images: Images) -> NDArray[np.float32]:
        """Images uint8 (N, C, H, W) -> class probabilities (N, K), each row of sum 1."""
        logits = torch.from_numpy(self._chunks(images, "forward"))
        return logits.softmax(dim=1).numpy()

    def both(self, images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """`features` and `probabilities`."""
        return self.features(images), self.probabilities(images)

    def accuracy(self, images: Images, labels: NDArray[np.int64]) -> float:
        """The fraction of images uint8 (N, C, H, W) whose most probable class is their label (N,)."""
        return float((self.probabilities(images).argmax(axis=1) == labels).mean())

    @property
    def name(self) -> str:
        """What a table prints as the evaluator: network, layer, accuracy and hash."""
        accuracy = "unmeasured" if self.held_out_accuracy is None else f"{self.held_out_accuracy:.4f}"
        digest = hashlib.sha256(self.tensors()).hexdigest()[:8]
        layer = f"penultimate layer ({NUM_FEATURES})"
        width = self.shape["width"]
        return f"CNN width {width}, {layer}, held-out accuracy {accuracy}, sha256 {digest}"

    def tensors(self) -> bytes:
        """The network as the bytes of a safetensors file: equal networks, equal bytes."""
        return safetensors.torch.save(self.network.state_dict())

    def identity(self) -> dict[str, str]:
        """What its features follow from: weights and device; the program is hashed apart."""
        return {"weights": hashlib.sha256(self.tensors()).hexdigest(), "device": self.device}

    def config(self) -> Config:
        """The network's shape and its accuracy."""
        return {"shape": self.shape, "held_out_accuracy": self.held_out_accuracy}

    def _chunks(self, images: Images, method: str) -> NDArray[np.float32]:
        expected = (self.shape["channels"], self.shape["image_size"], self.shape["image_size"])
        if images.dtype != np.uint8 or images.shape[1:] != expected or not len(images):
            raise UserError(
                f"images of {images.dtype} {images.shape} do not fit the classifier of the feature space, "
                f"which takes uint8 (N, {', '.join(map(str, expected))}), N at least 1: "
                "repeat the stage `features` on this data set."
            )
        starts = range(0, len(images), _CHUNK)
        with exact_on(self.device), torch.inference_mode():
            call = getattr(self.network.to(self.device), method)
            chunks = (torch.from_numpy(np.array(images[k : k + _CHUNK])) for k in starts)
            return torch.cat([call(chunk.to(self.device)).cpu() for chunk in chunks]).numpy()


def train_classifier(train: Split, settings: Classifier) -> ClassifierSpace:
    """Train on images uint8 (N, C, H, H) and labels (N,); a function of its arguments, bit for bit.

    AdamW under a one-cycle schedule with peak `lr`. Each image is moved by at most a pixel, differently in
    each epoch. Whole batches only: another rest of the images is left out in each epoch.

    Raises:
        UserError: labels of fewer than two classes, or fewer images than a batch.
    """
    images, labels = train
    _check(images, labels, settings.batch_size)
    shape = {
        "channels": images.shape[1],
        "image_size": images.shape[2],
        "num_classes": int(labels.max()) + 1,
        "width": settings.width,
    }
    with exact(settings.seed):
        network = FeatureNetwork(**shape)
        _fit(network, images, labels, settings)
    space = ClassifierSpace(network.eval().requires_grad_(False), shape)
    _standardise(space, images)
    return space


def _fit(network: "FeatureNetwork", images: Images, labels: NDArray[np.int64], settings: Classifier) -> None:
    size, lr = settings.batch_size, settings.lr
    steps = settings.epochs * (len(images) // size)
    optimizer = eager.EagerAdamW(network.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for index in _reported(_batches(len(images), size, settings.epochs)):
        x, label = torch.from_numpy(images[index]), torch.from_numpy(labels[index])
        loss = F.cross_entropy(network(shift(x, torch.randint(3, (size, 2)))), label)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


def _batches(num_examples: int, batch_size: int, epochs: int) -> list[NDArray[np.int64]]:
    whole = num_examples - num_examples % batch_size
    epoch = [torch.randperm(num_examples)[:whole].reshape(-1, batch_size) for _ in range(epochs)]
    return list(torch.cat(epoch).numpy())


def _reported(batches: list[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
    """The batches; every few seconds progress, speed and time left are logged."""
    begun = reported = time.monotonic()
    for done, batch in enumerate(batches):
        if done and (now := time.monotonic()) - reported >= LOG_EVERY_S:
            reported, speed = now, done / (now - begun)
            logger.info(
                "classifier of the feature space: batch %d of %d, %.0f images a second, about %.0f s left",
                *(done, len(batches), speed * len(batch), (len(batches) - done) / speed),
            )
        yield batch


def _check(images: Images, labels: NDArray[np.int64], batch_size: int) -> None:
    if len(np.unique(labels)) < 2:
        raise UserError(
            "the labels name fewer than two classes, so no classifier can be trained: sort the images into folders, "
            "one a class, or give labels; or set features.kind to one that needs none: rotations, or for colour "
            "inception or dinov2."
        )
    if batch_size > len(images):
        raise UserError(f"features.batch_size ({batch_size}) is above the {len(images)} training images: lower it.")


def _standardise(space: ClassifierSpace, images: Images) -> None:
    features = torch.from_numpy(space.features(images)).double()
    space.network.centre.copy_(features.mean(dim=0))
    space.network.scale.copy_(features.var(dim=0, correction=0).mean().sqrt().clamp_min(1e-6))


def _block(channels: int, width: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]


def _body(channels: int, image_size: int, width: int) -> list[nn.Module]:
    """Two convolutions a resolution, halved until at most 4 pixels are left, then a layer of 64."""
    layers = _block(channels, width) + _block(width, width)
    last = width
    while image_size > 4:
        image_size, channels, last = (image_size + 1) // 2, last, min(2 * last, 4 * width)
        layers += [nn.AvgPool2d(2, ceil_mode=True), *_block(channels, last), *_block(last, last)]
    return [*layers, nn.Flatten(), nn.Linear(last * image_size**2, NUM_FEATURES), nn.ReLU()]


class FeatureNetwork(nn.Module):
    """A small convolutional classifier of uint8 images (B, C, H, H).

    `forward` gives the logits (B, K) and `features` the penultimate layer (B, 64), shifted and
    divided by one number for all of them, so that over the training images their mean is 0 and
    their variance 1 on average. This is the unit of FID and KID: it would
    otherwise vary with the training.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, *, channels: int, image_size: int, num_classes: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_body(channels, image_size, width))
        self.head = nn.Linear(NUM_FEATURES, num_classes)
        self.register_buffer("centre", torch.zeros(NUM_FEATURES))
        self.register_buffer("scale", torch.ones(()))

    def penultimate(self, images: Tensor) -> Tensor:
        """Images uint8 (B, C, H, H) -> (B, 64) before shift and scale."""
        return self.body(images.float() / 127.5 - 1)  # type: ignore[no-any-return]

    def features(self, images: Tensor) -> Tensor:
        """Images uint8 (B, C, H, H) -> (B, 64)."""
        return (self.penultimate(images) - self.centre) / self.scale

    def forward(self, images: Tensor) -> Tensor:
        """Images uint8 (B, C, H, H) -> logits (B, K)."""
        return self.head(self.penultimate(images))  # type: ignore[no-any-return]


def shift(images: Tensor, offsets: Tensor) -> Tensor:
    """Move image i of (B, C, H, W) by `offsets[i]` - 1 pixels (rows, columns), offsets in {0, 1, 2}.

    What comes in at the border is black. Returns (B, C, H, W).
    """
    batch, _, height, width = images.shape
    padded = F.pad(images, (1, 1, 1, 1))
    example = torch.arange(batch)[:, None, None]
    rows = (2 - offsets[:, :1] + torch.arange(height))[:, :, None]
    columns = (2 - offsets[:, 1:] + torch.arange(width))[:, None, :]
    return padded[example, :, rows, columns].permute(0, 3, 1, 2)
