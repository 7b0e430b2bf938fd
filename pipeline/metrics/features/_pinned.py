"""Pinned classifiers: files that make FIDs of different machines distances in one feature space.

A safetensors file of the classifier's weights. Its metadata has the network's shape, the SHA-256 of the images
that it was trained on, and what made it: `python -m pipeline.commands.pin_evaluator` writes it.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from pipeline.files import sha256
from pipeline.metrics.features import Images
from pipeline.ncsn.errors import UserError

_CHUNK = 1000  # images in memory at once
ABOUT = "about"
"""The one key of the metadata: safetensors writes several in another order each time."""


def write(
    path: Path, weights: Mapping[str, Tensor], shape: Mapping[str, int], images: Images, made: Mapping[str, str]
) -> str:
    """Write a pinned classifier; returns the file's SHA-256.

    Args:
        shape: the keyword arguments of its network.
        images: uint8 (N, C, H, W), what it was trained on.
        made: what made it: preset, versions, hardware.
    """
    about = {"shape": dict(shape), "images_sha256": _digest(images), **made}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(safetensors.torch.save(dict(weights), metadata={ABOUT: json.dumps(about)}))
    part.replace(path)
    return sha256(path)


def read(path: Path, expected: str, images: Images) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Weights and shape of a pinned classifier.

    Args:
        expected: the file's SHA-256.
        images: uint8 (N, C, H, W), the training images of this run.

    Raises:
        UserError: the file is missing, has another hash, or was trained on other images: then the held-out
            ones may be among them.
    """
    anew = "or set features.weights and features.sha256 to null to train a classifier"
    if not path.is_file():
        raise UserError(f"features.weights ({path}) is no file: correct it, {anew}.")
    if (found := sha256(path)) != expected:
        raise UserError(f"{path} has sha256 {found}, not features.sha256 ({expected}): restore the file, {anew}.")
    with safetensors.safe_open(path, "pt") as file:
        about = json.loads(file.metadata()[ABOUT])
    if about["images_sha256"] != _digest(images):
        raise UserError(
            f"features.weights ({path}) was trained on other images than the training split of this run, "
            f"such as another data.seed, data.num_held_out or data set: name the file of these images, {anew}."
        )
    return safetensors.torch.load_file(path), about["shape"]


def _digest(images: Images) -> str:
    found = hashlib.sha256(repr(images.shape).encode())
    for start in range(0, len(images), _CHUNK):
        found.update(images[start : start + _CHUNK].tobytes())
    return found.hexdigest()
