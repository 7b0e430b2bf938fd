"""A training as frozen plain data: the hash of what can change its weights names its run."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from pipeline import program
from pipeline.ncsn.averages import Average
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.kinds import plain
from pipeline.ncsn.losses import Loss
from pipeline.training.optimizers import Optimizer
from pipeline.training.schedules import Schedule

if TYPE_CHECKING:
    from pipeline.params.training import Recipe, Train

ROOMS = {"loss": "losses", "optimizer": "optimizers", "schedule": "schedules", "ema": "averages"}
"""The fields of a task that hold settings of a kind, with the room that each is of."""
OBSERVING = ("log_every", "snapshot_every")
"""Fields that change what is written, not what is trained."""


def code_version(settings: Any) -> str:
    """Version of the code that trains: what `fit` and the kinds in these settings reach, and the packages."""
    return program.version("pipeline.training.fit", *program.modules(settings))


def data_digest(images: np.ndarray) -> str:
    """SHA-256 of the training images themselves, (N, C, H, W) uint8, in their order."""
    return hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Task:
    """A whole training. Two tasks with one fingerprint have the same weights after the same number of steps.

    Raises:
        UserError: batch_size is not divisible by micro_batches, or the network has no ladder.
    """

    network: Mapping[str, Any]
    """The keyword arguments of `make_network`, the ladder `sigmas` (L,) among them."""
    loss: Loss
    optimizer: Optimizer
    schedule: Schedule
    ema: Average
    dequantise: bool
    flip: bool
    steps: int
    batch_size: int
    micro_batches: int
    """The number of fixed parts of a batch, whatever the number of workers."""
    determinism: str = "bitwise"
    """"bitwise": the same bits on any number of workers (checked on the CPU, expected but not checked on
    CUDA); "fast": plain DistributedDataParallel."""
    precision: str = "float32"
    compile: bool = False
    checkpoint_every: int
    """Steps between checkpoints, of which the newest few are kept to resume from."""
    log_every: int
    """Steps between rows of the loss curve."""
    seed: int
    data_sha256: str
    rollbacks: int = 0
    """How often a diverged loss sends the run back to its last checkpoint, each time at half the rate."""
    snapshot_every: int = 0
    """Steps between the averaged weights that are kept for good; 0: the last ones alone."""
    code: str = ""
    """`code_version` of the program that trains; found at construction where it is left out."""

    def __post_init__(self) -> None:
        if self.batch_size % self.micro_batches:
            raise UserError(
                f"train.batch_size ({self.batch_size}) is not divisible by train.micro_batches "
                f"({self.micro_batches}): change one of them in params.yaml."
            )
        if not self.network.get("sigmas"):
            raise UserError("the task's network has no `sigmas`: give it the noise ladder to train on.")
        if not self.code:
            object.__setattr__(self, "code", code_version(self))

    @classmethod
    def build(
        cls,
        recipe: "Recipe",
        train: "Train",
        *,
        sigmas: torch.Tensor,
        image_shape: tuple[int, int, int],
        data_sha256: str,
    ) -> Self:
        """A task from two sections of params.yaml, the noise ladder and the data.

        Args:
            recipe: of the network.
            train: what all networks share.
            sigmas: the ladder, (L,), strictly descending, in units of pixels in [0, 1].
            image_shape: (C, H, W) of one image.
            data_sha256: `data_digest` of the training images.
        """
        return cls(
            network=network_arguments(recipe.network, sigmas, image_shape),
            loss=recipe.loss,
            optimizer=recipe.optimizer,
            schedule=recipe.schedule,
            ema=recipe.ema,
            dequantise=recipe.dequantise,
            flip=recipe.flip,
            steps=recipe.steps or train.steps,
            batch_size=train.batch_size,
            micro_batches=train.micro_batches,
            determinism=train.determinism,
            precision=train.precision,
            compile=train.compile,
            checkpoint_every=train.checkpoint_every,
            log_every=train.log_every,
            seed=train.seed,
            data_sha256=data_sha256,
            rollbacks=train.rollbacks,
            snapshot_every=train.snapshot_every,
        )

    def plain(self) -> dict[str, Any]:
        """The task as values that JSON holds exactly; settings of kinds as in params.yaml."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values |= {name: plain(getattr(self, name)) for name in ROOMS}
        return dict(json.loads(json.dumps(values, allow_nan=False)))

    @property
    def extends(self) -> bool:
        """Whether a shorter run of this task is the beginning of it, bit for bit.

        Not where the schedule depends on the number of steps. Nor with rollbacks: the last checkpoint of a
        shorter run may be one that a divergence would have gone back behind.
        """
        return not (self.rollbacks or self.schedule.needs_steps)

    def identity(self) -> dict[str, Any]:
        """`plain` without what changes no weight before the last step."""
        resuming = ("checkpoint_every",) * (not self.rollbacks) + ("steps",) * self.extends
        return {name: value for name, value in self.plain().items() if name not in (*OBSERVING, *resuming)}

    def fingerprint(self) -> str:
        """SHA-256 of `identity`, as 64 hexadecimal digits: it names the run, of whatever length."""
        text = json.dumps(self.identity(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def network_arguments(settings: Any, sigmas: torch.Tensor, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """The keyword arguments of `make_network`.

    Args:
        settings: of a kind of network.
        sigmas: the ladder, (L,).
        image_shape: (C, H, W) of one image.
    """
    channels, height, _ = image_shape
    return {
        **plain(settings),
        "channels": channels,
        "image_size": height,
        "sigmas": tuple(sigmas.tolist()),
    }
