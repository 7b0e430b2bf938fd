"""Inception-v3, the feature space of the papers, as TensorFlow's FID had it, in torch-fidelity's port."""

import contextlib
import importlib.util
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.metrics.features._pretrained import Pretrained, PretrainedSpace
from pipeline.ncsn.errors import UserError

_PACKAGE = "torch_fidelity"


class InceptionSpace(PretrainedSpace):
    """Features (N, 2048) and probabilities of the 1,008 classes, without the layer's bias."""

    kind = "inception"
    layer = "2048"
    """64, 192, 768 or 2048: how many features, from how deep."""

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Images uint8 (N, 3, H, W) -> (N, D); raises UserError where they are no such images."""
        return self._layers(images, [self.layer])[0].numpy()

    def both(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """`features` and the probabilities (N, 1008), in one pass."""
        found, logits = self._layers(images, [self.layer, "logits_unbiased"])
        return found.numpy(), logits.softmax(dim=1).numpy()

    @property
    def name(self) -> str:
        """Network, layer, library and weights."""
        network = f"Inception-v3 (FID port of torch-fidelity {version('torch-fidelity')})"
        return f"{network}, layer {self.layer}, weights sha256 {self.sha256[:8]}"

    def _layers(self, images: NDArray[np.uint8], layers: list[str]) -> list[Tensor]:
        def call(chunk: Tensor) -> tuple[Tensor, ...]:
            self.network.features_list = layers  # type: ignore[assignment]
            found: tuple[Tensor, ...] = self.network(chunk)
            return found

        return self.outputs(images, call)

    def make(self) -> nn.Module:
        """torch-fidelity's network."""
        return make_inception(self.weights, self.layer)


@dataclass(frozen=True)
class Inception(Pretrained):
    """The papers' Inception-v3, for RGB images."""

    space = InceptionSpace
    url = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"


def make_inception(weights: dict[str, Tensor], layer: str = "2048") -> nn.Module:
    """torch-fidelity's network in eval mode; raises UserError where that is not installed, or misfits."""
    try:
        with without_torchvision():
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise UserError(
            f"features.kind is inception, which needs torch-fidelity ({error}): "
            "`pip install --no-deps torch-fidelity`, or set features.kind to classifier."
        ) from error
    file = io.BytesIO()  # its constructor unpickles whatever it is given: only what is written here
    torch.save(weights, file)
    file.seek(0)
    try:
        return FeatureExtractorInceptionV3("inception", [layer], file)  # type: ignore[no-any-return]
    except RuntimeError as error:
        raise UserError(f"features.weights does not hold Inception-v3: {error}") from error


@contextlib.contextmanager
def without_torchvision() -> Iterator[None]:
    """Import guard within which modules of torch-fidelity are imported without the package's `__init__`.

    That imports torchvision, for networks not used here, and the registry's torchvision does not import
    next to a CPU build of torch. torchmetrics imports such modules wherever torch-fidelity is installed.
    Afterwards the package is as it was: who imports it whole gets it whole.
    """
    spec = None if _PACKAGE in sys.modules else importlib.util.find_spec(_PACKAGE)
    if spec is None:
        yield
        return
    sys.modules[_PACKAGE] = importlib.util.module_from_spec(spec)
    try:
        yield
    finally:
        del sys.modules[_PACKAGE]
