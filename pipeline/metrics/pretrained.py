"""A feature space by a network that others have trained, for RGB: weights known by their hash."""

import abc
import dataclasses
import hashlib
import io
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.error import URLError

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.metrics.deterministic import exact_on
from pipeline.ncsn.errors import UserError

_CHUNK = 50  # images in one forward pass, each blown up for the network; part of what fixes the bits


@dataclasses.dataclass(frozen=True)
class Pretrained(abc.ABC):
    """The network with what names it in a table; pickled as its weights."""

    weights: dict[str, Tensor]
    sha256: str
    """Of the file that they came from."""
    device: str = "cpu"

    kind: ClassVar[str]
    """`reference.kind`, by which its file is named too."""
    url: ClassVar[str]

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """What a table prints as the evaluator: network, layer and weights."""

    @abc.abstractmethod
    def both(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Images uint8 (N, 3, H, W) -> features (N, D) and class probabilities (N, K); K 0: it knows none."""

    @abc.abstractmethod
    def _made(self) -> nn.Module:
        """The network in eval mode; raises UserError where the weights are not its."""

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Images uint8 (N, 3, H, W) -> (N, D); raises UserError where they are no such images."""
        return self.both(images)[0]

    def on(self, device: str) -> Self:
        """The same weights, whose network is made on the device when it is asked."""
        return self if device == self.device else dataclasses.replace(self, device=device)

    @classmethod
    def read(cls, weights: str | None, sha256: str) -> Self:
        """The network from a .pth file of its weights: a path, or None to download it.

        Raises:
            UserError: the file cannot be had, does not have this SHA-256, or holds another network. Nothing
                of it is parsed before its hash is checked, and no code in it is run.
        """
        path = Path(weights) if weights else _downloaded(cls.url, sha256)
        if not path.is_file():
            raise UserError(f"reference.weights ({path}) is no file: correct it, or null to download it.")
        content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != sha256:
            raise UserError(
                f"{path} has sha256 {found}, not reference.sha256 ({sha256}): delete it and fetch it anew, "
                "or correct the key if these weights are meant."
            )
        space = cls(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True), sha256)
        space._made()
        return space

    def tensors(self) -> bytes:
        """The weights as the bytes of a safetensors file."""
        return safetensors.torch.save({key: value.contiguous() for key, value in self.weights.items()})

    @cached_property
    def _network(self) -> nn.Module:
        return self._made().to(self.device)

    def _outputs(
        self, images: NDArray[np.uint8], call: Callable[[Tensor], tuple[Tensor, ...]]
    ) -> list[Tensor]:
        """What a function on the device makes of images uint8 (N, 3, H, W), some at a time."""
        if images.dtype != np.uint8 or images.shape[1:2] != (3,) or not len(images):
            raise UserError(
                f"images of {images.dtype} {images.shape} are not for reference.kind {self.kind}, which "
                "takes uint8 (N, 3, H, W): set reference.kind to classifier."
            )
        starts = range(0, len(images), _CHUNK)
        with exact_on(self.device), torch.inference_mode():
            chunks = (torch.from_numpy(np.array(images[k : k + _CHUNK])) for k in starts)
            parts = [call(chunk.to(self.device)) for chunk in chunks]
            return [torch.cat(part).cpu() for part in zip(*parts, strict=True)]

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def _downloaded(url: str, sha256: str) -> Path:
    """Where torch keeps what it downloads."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), sha256, progress=False)
        except (URLError, OSError, RuntimeError) as error:
            raise UserError(
                f"{url} cannot be downloaded ({error}): fetch it by hand and set "
                "reference.weights to the file."
            ) from error
    return path
