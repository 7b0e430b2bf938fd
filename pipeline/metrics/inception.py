"""The feature space of the papers: Inception-v3 as TensorFlow's FID had it, in torch-fidelity's port."""

import dataclasses
import io
from importlib.metadata import version

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.metrics.pretrained import Pretrained
from pipeline.metrics.torch_fidelity import without_torchvision
from pipeline.ncsn.errors import UserError


@dataclasses.dataclass(frozen=True)
class Inception(Pretrained):
    """Features (N, 2048) and probabilities of the 1,008 classes, without the layer's bias."""

    layer: str = "2048"
    """64, 192, 768 or 2048: how many features, from how deep."""

    kind = "inception"
    url = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"

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
        def outputs(chunk: Tensor) -> tuple[Tensor, ...]:
            self._network.features_list = layers  # type: ignore[assignment]
            found: tuple[Tensor, ...] = self._network(chunk)
            return found

        return self._outputs(images, outputs)

    def _made(self) -> nn.Module:
        return make_network(self.weights, self.layer)


def make_network(weights: dict[str, Tensor], layer: str = "2048") -> nn.Module:
    """torch-fidelity's network in eval mode; raises UserError where that is not installed, or misfits."""
    try:
        with without_torchvision():
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise UserError(
            f"reference.kind is inception, which needs torch-fidelity ({error}): "
            "`pip install --no-deps torch-fidelity`, or set reference.kind to classifier."
        ) from error
    file = io.BytesIO()  # its constructor unpickles whatever it is given: only what is written here
    torch.save(weights, file)
    file.seek(0)
    try:
        return FeatureExtractorInceptionV3("inception", [layer], file)  # type: ignore[no-any-return]
    except RuntimeError as error:
        raise UserError(f"reference.weights does not hold Inception-v3: {error}") from error
