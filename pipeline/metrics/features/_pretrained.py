"""Feature space of a network that others have trained, for RGB images: weights known by their hash."""

import abc
import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self
from urllib.error import URLError

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.files import at_home, in_a_copy
from pipeline.metrics.deterministic import exact_on
from pipeline.metrics.features import Built, Config, Split
from pipeline.ncsn.errors import UserError

_CHUNK = 50  # images in one forward pass, each blown up for the network; part of what fixes the bits


class PretrainedSpace(abc.ABC):
    """Feature space of published weights; pickled as these weights."""

    kind: ClassVar[str]

    def __init__(self, weights: dict[str, Tensor], sha256: str, device: str = "cpu") -> None:
        """
        Args:
            sha256: of the file that the weights came from.
        """
        self.weights, self.sha256, self.device = weights, sha256, device

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """What a table prints as the evaluator: network, layer and weights."""

    @abc.abstractmethod
    def both(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Images uint8 (N, 3, H, W) -> features (N, D) and class probabilities (N, K); K 0: it knows none."""

    @abc.abstractmethod
    def make(self) -> nn.Module:
        """The network in eval mode; raises UserError where the weights are not its."""

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Images uint8 (N, 3, H, W) -> (N, D); raises UserError where they are no such images."""
        return self.both(images)[0]

    def on(self, device: str) -> Self:
        """The same weights, with the network made on the device when first used."""
        return self if device == self.device else type(self)(self.weights, self.sha256, device)

    def tensors(self) -> bytes:
        """The weights as the bytes of a safetensors file."""
        return safetensors.torch.save({key: value.contiguous() for key, value in self.weights.items()})

    def config(self) -> dict[str, str]:
        """The hash of the published file."""
        return {"source_sha256": self.sha256}

    @cached_property
    def network(self) -> nn.Module:
        """The network on its device."""
        return self.make().to(self.device)

    def outputs(self, images: NDArray[np.uint8], call: Callable[[Tensor], tuple[Tensor, ...]]) -> list[Tensor]:
        """What a function on the device makes of images uint8 (N, 3, H, W), some at a time."""
        if images.dtype != np.uint8 or images.shape[1:2] != (3,) or not len(images):
            raise UserError(
                f"images of {images.dtype} {images.shape} are not for features.kind {self.kind}, which "
                "takes uint8 (N, 3, H, W): set features.kind to classifier."
            )
        starts = range(0, len(images), _CHUNK)
        with exact_on(self.device), torch.inference_mode():
            chunks = (torch.from_numpy(np.array(images[k : k + _CHUNK])) for k in starts)
            parts = [call(chunk.to(self.device)) for chunk in chunks]
            return [torch.cat(part).cpu() for part in zip(*parts, strict=True)]

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key != "network"}


@dataclass(frozen=True)
class Pretrained:
    """Settings of a feature space by published weights."""

    weights: str | None
    """A .pth file; None: download it."""
    sha256: str
    """Of that file."""

    space: ClassVar[type[PretrainedSpace]]
    url: ClassVar[str]

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise UserError(f"sha256 ({self.sha256}) is not 64 hexadecimal digits: copy it whole.")

    def build(self, train: Split, held_out: Split) -> Built:
        """The published network, whatever the data set: see `read`."""
        return Built(self.read(), {})

    def read(self) -> PretrainedSpace:
        """The feature space from its file.

        Raises:
            UserError: the file cannot be had, does not have this SHA-256, or holds another network. Nothing
                of it is parsed before its hash is checked, and no code in it is run.
        """
        path = Path(at_home(self.weights)) if self.weights else _downloaded(self.url, self.sha256)
        if not path.is_file():
            where = f"({path}) is no file{in_a_copy(path)}"
            raise UserError(f"features.weights {where}: correct it, or null to download it.")
        content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise UserError(
                f"{path} has sha256 {found}, not features.sha256 ({self.sha256}): delete it and fetch it "
                "again, or correct the key if these weights are meant."
            )
        weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        made = self.space(weights, self.sha256)
        made.make()
        return made

    @classmethod
    def load(cls, weights: Path, config: Config) -> PretrainedSpace:
        """The feature space from the copy of its weights that the stage `features` keeps."""
        return cls.space(safetensors.torch.load_file(weights), config["source_sha256"])


def _downloaded(url: str, sha256: str) -> Path:
    """Where torch keeps what it downloads."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), sha256, progress=False)
        except (URLError, OSError, RuntimeError) as error:
            raise UserError(
                f"{url} cannot be downloaded ({error}): fetch it by hand and set features.weights to the file."
            ) from error
    return path
