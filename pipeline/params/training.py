"""The sections `recipes` and `train`: how a network is trained."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.params.section import Count, Fraction, Positive, Section, Seed


class RefineNet(Section):
    """The papers' networks, their layout chosen by the image size."""

    kind: Literal["ncsn", "ncsnv2"]
    width: Annotated[int, Field(ge=2)]


class UNet(Section):
    """`pipeline.ncsn.networks.unet`; what is left out or null is chosen by the image size."""

    kind: Literal["unet"]
    width: Count
    multiples: list[Count] | None = None
    blocks: list[Count] | None = None
    attention: list[Count] | None = None
    patch: Count | None = None

    @model_validator(mode="after")
    def as_many(self) -> Self:
        if self.multiples and self.blocks and len(self.multiples) != len(self.blocks):
            raise ValueError(
                f"multiples ({self.multiples}) and blocks ({self.blocks}) must have the same length"
            )
        return self


Network = Annotated[RefineNet | UNet, Field(discriminator="kind")]


class LevelsLoss(Section):
    """Denoising score matching on the levels of the ladder, weighted by sigma^2 (NCSN, equation 6)."""

    kind: Literal["levels"]


class LogUniformLoss(Section):
    """The same at any sigma between the ladder's ends."""

    kind: Literal["log_uniform"]


class EDMLoss(Section):
    """EDM's law of sigma and its weighting (arXiv 2206.00364, table 1), in the unit of pixels in [0, 1]."""

    kind: Literal["edm"]
    p_mean: Annotated[float, Field(allow_inf_nan=False)]
    p_std: Positive


Loss = Annotated[LevelsLoss | LogUniformLoss | EDMLoss, Field(discriminator="kind")]
Precision = Literal["float32", "bfloat16"]


class Adam(Section):  # joined with TRAINING: these sections are replaced by by_kind(room)
    kind: Literal["adam"]
    lr: Positive
    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)]
    eps: Positive


class Constant(Section):
    kind: Literal["constant"]


class NoAverage(Section):
    kind: Literal["none"]


class Exponential(Section):
    """Moving average of the weights; the rate is the weight of the past."""

    kind: Literal["exponential"]
    rate: Fraction


Optimizer = Adam
Schedule = Constant
Average = Annotated[NoAverage | Exponential, Field(discriminator="kind")]


class Recipe(Section):
    """How one network is trained."""

    network: Network
    loss: Loss
    steps: Count | None
    """Optimiser steps; None: those of the section `train`."""
    optimizer: Optimizer
    schedule: Schedule
    ema: Average
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
    snapshot_every: Annotated[int, Field(ge=0)]
    log_every: Count
    rollbacks: Annotated[int, Field(ge=0)]
    seed: Seed

    @model_validator(mode="after")
    def divisible(self) -> Self:
        if self.batch_size % self.micro_batches:
            raise ValueError(
                f"batch_size ({self.batch_size}) must be divisible by micro_batches ({self.micro_batches})"
            )
        return self
