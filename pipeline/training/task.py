"""What is to be trained, as frozen plain data whose hash names the run."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch

from pipeline import program
from pipeline.ncsn.errors import UserError

# These change how often a result is kept, not the result.
OBSERVING = ("checkpoint_every",)


def code_version(settings: Any) -> str:
    """Version of the code that trains: what `fit` and the kinds in these settings reach, and the packages."""
    return program.version("pipeline.training.fit", *program.modules(settings))


def data_digest(images: np.ndarray) -> str:
    """SHA-256 of the training images themselves, (N, C, H, W) uint8, in their order."""
    return hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Task:
    """One training, complete: two tasks with one fingerprint leave the same weights.

    `network` holds the keyword arguments of `make_network`, the ladder `sigmas` (L,) among them; `loss`
    says what noise is drawn and how it is weighted (`pipeline.training.batches.sigmas`).
    `microshards` is the number of fixed parts a batch is cut into, whatever the number of workers.
    `determinism` "elastic" makes the weights independent of that number, bit for bit: checked on the CPU,
    expected but not checked on CUDA. `rollbacks` is how often a loss that diverges sends the run back to its
    last checkpoint, each time at half the learning rate; with any, `checkpoint_every` is part of the result.
    So is `snapshot_every`: each so many steps the averaged weights are kept for good; 0: the last ones alone.

    Raises:
        UserError: batch_size is not divisible by microshards, or the network has no ladder.
    """

    network: Mapping[str, Any]
    loss: Mapping[str, Any]
    lr: float
    betas: tuple[float, float]
    adam_eps: float
    ema_rate: float
    dequantise: bool
    flip: bool
    steps: int
    batch_size: int
    microshards: int
    determinism: str
    precision: str
    compile: bool
    checkpoint_every: int
    log_every: int
    seed: int
    data_sha256: str
    rollbacks: int = 0
    snapshot_every: int = 0
    code: str = ""
    """`code_version` of the task itself, unless it is given."""

    def __post_init__(self) -> None:
        if self.batch_size % self.microshards:
            raise UserError(
                f"train.batch_size ({self.batch_size}) is not divisible by train.microshards "
                f"({self.microshards}): change one of them in params.yaml."
            )
        if not self.network.get("sigmas"):
            raise UserError("the task's network has no `sigmas`: give it the noise ladder to be trained on.")
        if not self.code:
            object.__setattr__(self, "code", code_version(self))

    @classmethod
    def build(
        cls,
        recipe: Mapping[str, Any],
        train: Mapping[str, Any],
        *,
        sigmas: torch.Tensor,
        image_shape: tuple[int, int, int],
        data_sha256: str,
    ) -> Self:
        """A task from params.yaml's sections `recipes.VARIANT` and `train`, the ladder (L,) and the data.

        Args:
            recipe: network {kind, width}, loss, steps (None: those of `train`), lr, betas, adam_eps,
                ema_rate, dequantise, flip.
            train: steps, batch_size, microshards, determinism, precision, compile, checkpoint_every,
                log_every, seed, rollbacks, snapshot_every.
            sigmas: (L,), strictly descending, in units of pixels in [0, 1].
            image_shape: (C, H, W) of one image.
            data_sha256: `data_digest` of the training images.
        """
        channels, height, _ = image_shape
        network = {
            **recipe["network"],
            "channels": channels,
            "image_size": height,
            "sigmas": tuple(sigmas.tolist()),
        }
        rest = {key: value for key, value in recipe.items() if key not in ("network", "betas")}
        first, second = recipe["betas"]
        lengths = {"steps": recipe["steps"] or train["steps"]}
        return cls(
            network=network, betas=(first, second), data_sha256=data_sha256, **{**rest, **train, **lengths}
        )

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `plain`, through JSON or not."""
        network = {**plain["network"], "sigmas": tuple(plain["network"]["sigmas"])}
        return cls(**{**plain, "network": network, "betas": tuple(plain["betas"])})

    def plain(self) -> dict[str, Any]:
        """The task as values that JSON holds exactly."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self), allow_nan=False))
        return plain

    def fingerprint(self) -> str:
        """SHA-256 of all that can change the result, as 64 hexadecimal digits."""
        observing = () if self.rollbacks else OBSERVING
        plain = {key: value for key, value in self.plain().items() if key not in observing}
        return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
