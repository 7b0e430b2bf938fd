"""The sections `recipes` and `train`: how a network is trained."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.ncsn.averages import Average
from pipeline.ncsn.losses import Loss
from pipeline.ncsn.networks import NetworkSettings
from pipeline.params.kinds import by_kind
from pipeline.params.section import Count, Section, Seed
from pipeline.training.optimizers import Optimizer
from pipeline.training.schedules import Schedule

Precision = Literal["float32", "bfloat16"]


class Recipe(Section):
    """How one network is trained."""

    network: Annotated[NetworkSettings, by_kind("networks")]
    loss: Annotated[Loss, by_kind("losses")]
    steps: Count | None
    """Optimiser steps; None: those of the section `train`."""
    optimizer: Annotated[Optimizer, by_kind("optimizers")]
    schedule: Annotated[Schedule, by_kind("schedules")]
    ema: Annotated[Average, by_kind("averages")]
    dequantise: bool
    flip: bool


class Train(Section):
    steps: Count
    batch_size: Count
    micro_batches: Count
    determinism: Literal["bitwise", "fast"]
    precision: Precision
    compile: bool
    checkpoint_every: Count
    snapshot_every: Annotated[int, Field(ge=0, le=10**9)]
    log_every: Count
    rollbacks: Annotated[int, Field(ge=0, le=1000)]
    seed: Seed

    @model_validator(mode="after")
    def divisible(self) -> Self:
        if self.batch_size % self.micro_batches:
            raise ValueError(
                f"batch_size ({self.batch_size}) must be divisible by micro_batches ({self.micro_batches})"
            )
        return self
