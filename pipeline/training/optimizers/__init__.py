"""Optimisers: from gradients to new weights. Each kind is a file of this package."""

import math
from collections.abc import MutableMapping
from typing import Any, Protocol

from torch import Tensor, nn

from pipeline.ncsn.errors import UserError


class Stepper(Protocol):
    """An optimiser at work: any `torch.optim.Optimizer`, or several that act as one."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups with their `params` and their `lr`, which the schedule sets before each step."""

    @property
    def state(self) -> MutableMapping[Any, Any]:
        """What it remembers, by parameter: tensors by name."""

    def step(self) -> Any:
        """Change the weights by their gradients."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""


class Optimizer(Protocol):
    """Settings of an optimiser: `optimizer` in params.yaml."""

    @property
    def lr(self) -> float:
        """The learning rate, which the schedule multiplies."""

    def build(self, network: nn.Module) -> Stepper:
        """An optimiser of a network's parameters, on their device."""


def check_positive(**settings: float) -> None:
    """Raise UserError unless each setting of an optimiser, named by its key, is positive and finite."""
    for name, value in settings.items():
        if not (value > 0 and math.isfinite(value)):
            raise UserError(f"{name} is {value}: it must be a positive number.")


def check_fractions(**settings: float) -> None:
    """Raise UserError unless each setting of an optimiser, named by its key, is at least 0 and below 1."""
    for name, value in settings.items():
        if not 0 <= value < 1:
            raise UserError(f"{name} is {value}: it must be at least 0 and below 1.")


def check_betas(betas: tuple[float, ...]) -> tuple[float, float]:
    """Adam's two rates of decay as a pair. Raises UserError unless they are two numbers in [0, 1)."""
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise UserError(f"betas is {list(betas)}: it must be two numbers from 0 to below 1.")
    return betas[0], betas[1]


def weights_of(network: nn.Module) -> list[Tensor]:
    """The parameters that are trained, in the network's order."""
    return [value for value in network.parameters() if value.requires_grad]
