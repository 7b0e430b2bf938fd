"""The feature space: a classifier trained on the train split, saved with its hash."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from pipeline.files import read_json, sha256, write_json
from pipeline.metrics.deterministic import exact_on
from pipeline.metrics.dinov2 import DINOv2
from pipeline.metrics.inception import Inception
from pipeline.metrics.network import NUM_FEATURES, FeatureNetwork
from pipeline.metrics.pretrained import Pretrained
from pipeline.ncsn.errors import UserError

Images = NDArray[np.uint8]
WEIGHTS, CONFIG = "classifier.safetensors", "config.json"
PRETRAINED: dict[str, type[Pretrained]] = {space.kind: space for space in (Inception, DINOv2)}
"""By `reference.kind`."""
_CHUNK = 500  # images in one forward pass; fixed, since it is part of what fixes the bits


class FeatureSpace(Protocol):
    """What samples are judged in: a `Classifier`, or a network of `PRETRAINED`."""

    @property
    def name(self) -> str:
        """What a table prints as the evaluator; on any device, which change features by rounding."""

    @property
    def device(self) -> str:
        """ "cpu" or "cuda": where it computes; its weights go there when it does."""

    def on(self, device: str) -> Self:
        """The same on a device."""

    def features(self, images: Images) -> NDArray[np.float32]:
        """Images uint8 (N, C, H, W) -> (N, D); raises UserError where they do not fit."""

    def both(self, images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The features and the class probabilities (N, K); K is 0 where it knows no classes."""


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A trained network with what names it in a table."""

    network: FeatureNetwork
    shape: dict[str, int]
    """The keyword arguments of FeatureNetwork."""
    held_out_accuracy: float | None = None
    device: str = "cpu"

    def on(self, device: str) -> Self:
        """The same network, which is moved to the device when it is asked."""
        return self if device == self.device else dataclasses.replace(self, device=device)

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
        """What a table prints as the evaluator: kind, layer, accuracy and hash."""
        accuracy = "unmeasured" if self.held_out_accuracy is None else f"{self.held_out_accuracy:.4f}"
        digest = hashlib.sha256(self.weights()).hexdigest()[:8]
        layer = f"penultimate layer ({NUM_FEATURES})"
        width = self.shape["width"]
        return f"CNN width {width}, {layer}, held-out accuracy {accuracy}, sha256 {digest}"

    def weights(self) -> bytes:
        """The network as the bytes of a safetensors file: equal networks, equal bytes."""
        return safetensors.torch.save(self.network.state_dict())

    def _chunks(self, images: Images, method: str) -> NDArray[np.float32]:
        expected = (self.shape["channels"], self.shape["image_size"], self.shape["image_size"])
        if images.dtype != np.uint8 or images.shape[1:] != expected or not len(images):
            raise UserError(
                f"images of {images.dtype} {images.shape} do not fit the reference classifier, which takes "
                f"uint8 (N, {', '.join(map(str, expected))}), N at least 1: "
                "repeat the `reference` stage on this data set."
            )
        starts = range(0, len(images), _CHUNK)
        with exact_on(self.device), torch.inference_mode():
            call = getattr(self.network.to(self.device), method)
            chunks = (torch.from_numpy(np.array(images[k : k + _CHUNK])) for k in starts)
            return torch.cat([call(chunk.to(self.device)).cpu() for chunk in chunks]).numpy()


def save(space: Classifier | Pretrained, folder: Path) -> None:
    """Write the weights, then config.json with the hash of each tensor file in the folder."""
    if isinstance(space, Pretrained):
        config: dict[str, Any] = {"kind": space.kind, "source_sha256": space.sha256}
        (folder / f"{space.kind}.safetensors").write_bytes(space.tensors())
    else:
        config = {"shape": space.shape, "held_out_accuracy": space.held_out_accuracy}
        (folder / WEIGHTS).write_bytes(space.weights())
    hashes = {path.name: sha256(path) for path in sorted(folder.glob("*.safetensors"))}
    write_json(folder / CONFIG, {**config, "sha256": hashes})


def verified(folder: Path, name: str) -> Path:
    """The path of a tensor file whose hash is the one in config.json; raises UserError where it is not."""
    path = folder / name
    mend = f"delete {folder} and run `dvc repro`."
    if not path.is_file():
        raise UserError(f"{path} is missing: {mend}")
    if sha256(path) != read_json(folder / CONFIG).get("sha256", {}).get(name):
        raise UserError(f"{path} does not have the sha256 that {folder / CONFIG} gives: {mend}")
    return path


def load(folder: Path) -> FeatureSpace:
    """Read what `save` wrote; raises UserError where a file is missing, damaged or of another version."""
    config: dict[str, Any] = read_json(folder / CONFIG)
    if kind := config.get("kind"):
        weights = safetensors.torch.load_file(verified(folder, f"{kind}.safetensors"))
        return PRETRAINED[kind](weights, config["source_sha256"])
    return _load_classifier(verified(folder, WEIGHTS), config)


def _load_classifier(path: Path, config: dict[str, Any]) -> Classifier:
    try:
        network = FeatureNetwork(**config["shape"])
        network.load_state_dict(safetensors.torch.load_file(path))
        return Classifier(network.eval().requires_grad_(False), config["shape"], config["held_out_accuracy"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise UserError(
            f"{path.parent / CONFIG} does not describe {path} ({error}): delete {path.parent} and "
            "run `dvc repro`."
        ) from error
