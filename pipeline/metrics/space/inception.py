"""The feature space of the papers: Inception-v3 as TensorFlow's FID had it, in torch-fidelity's port."""

import dataclasses
import hashlib
import io
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self
from urllib.error import URLError

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.metrics.space.exact import exact_on
from pipeline.metrics.space.fidelity import without_torchvision

WEIGHTS = "inception.safetensors"
URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
_CHUNK = 50  # images in one forward pass, each blown up to 299 x 299; part of what fixes the bits


@dataclasses.dataclass(frozen=True)
class Inception:
    """The network with what names it in a table; pickled as its weights."""

    weights: dict[str, Tensor]
    sha256: str
    """Of the file that they came from."""
    layer: str = "2048"
    """64, 192, 768 or 2048: how many features, from how deep."""
    device: str = "cpu"

    def on(self, device: str) -> Self:
        """The same weights, whose network is made on the device when it is asked."""
        return self if device == self.device else dataclasses.replace(self, device=device)

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Images uint8 (N, 3, H, W) -> (N, 2048); raises UserError where they are no such images."""
        return self._outputs(images, [self.layer])[0].numpy()

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Images uint8 (N, 3, H, W) -> probabilities of the 1,008 classes, without the layer's bias."""
        return self.both(images)[1]

    def both(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """`features` and `probabilities` in one pass."""
        found, logits = self._outputs(images, [self.layer, "logits_unbiased"])
        return found.numpy(), logits.softmax(dim=1).numpy()

    @property
    def name(self) -> str:
        """What a table prints as the evaluator: network, layer, library and weights."""
        network = f"Inception-v3 (FID port of torch-fidelity {version('torch-fidelity')})"
        return f"{network}, layer {self.layer}, weights sha256 {self.sha256[:8]}"

    def _outputs(self, images: NDArray[np.uint8], layers: list[str]) -> list[Tensor]:
        if images.dtype != np.uint8 or images.shape[1:2] != (3,) or not len(images):
            raise UserError(
                f"images of {images.dtype} {images.shape} are not for Inception-v3, which takes uint8 "
                "(N, 3, H, W): set reference.kind to classifier."
            )
        starts = range(0, len(images), _CHUNK)
        with exact_on(self.device), torch.inference_mode():
            self._network.features_list = layers  # type: ignore[assignment]
            chunks = (torch.from_numpy(np.array(images[k : k + _CHUNK])) for k in starts)
            parts = [self._network(chunk.to(self.device)) for chunk in chunks]
            return [torch.cat(part).cpu() for part in zip(*parts, strict=True)]

    @cached_property
    def _network(self) -> nn.Module:
        return make_network(self.weights, self.layer).to(self.device)

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


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


def read(weights: str | None, sha256: str) -> Inception:
    """The network from a .pth file of its weights: a path, or None to download it (95 MB).

    Raises:
        UserError: the file cannot be had, does not have this SHA-256, or holds another network. Nothing of
            it is parsed before its hash is checked, and no code in it is run.
    """
    path = Path(weights) if weights else _downloaded(sha256)
    if not path.is_file():
        raise UserError(f"reference.weights ({path}) is no file: correct it, or null to download it.")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise UserError(
            f"{path} has sha256 {found}, not reference.sha256 ({sha256}): delete it and fetch it anew, or "
            "correct the key if these weights are meant."
        )
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    make_network(state)
    return Inception(state, sha256)


def _downloaded(sha256: str) -> Path:
    """Where torch keeps what it downloads, as torch-fidelity itself does."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / URL.rsplit("/", 1)[1]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(URL, str(path), sha256, progress=False)
        except (URLError, OSError, RuntimeError) as error:
            raise UserError(
                f"{URL} cannot be downloaded ({error}): fetch it by hand and set "
                "reference.weights to the file."
            ) from error
    return path


def tensors(space: Inception) -> bytes:
    """The weights as the bytes of a safetensors file."""
    return safetensors.torch.save({key: value.contiguous() for key, value in space.weights.items()})
