"""Moving averages of a network's weights, from which samples are drawn (technique 5 of NCSNv2).

Each kind is a file of this package. It depends on the weights and the step alone, so that resuming needs
nothing but the average itself.
"""

from collections.abc import Mapping
from typing import Protocol, Self

import torch
from torch import Tensor, nn

from ..errors import UserError


class Average(Protocol):
    """Settings of a moving average: `ema` in params.yaml."""

    def update(self, average: list[Tensor], weights: list[Tensor], step: int) -> None:
        """Take the weights after an optimiser step into the average, in place.

        Args:
            average: one tensor for each parameter.
            weights: the parameters, in the same order and shapes.
            step: the number of optimiser steps done, from 1.
        """

    def shortened(self, full_steps: int, steps: int) -> Self:
        """The average that spans the same fraction of `steps` steps as this one does of `full_steps`."""


class AveragedWeights:
    """The average of a network's weights, which starts as the weights at construction.

    Buffers are copied, not averaged.
    """

    def __init__(self, network: nn.Module, rule: Average) -> None:
        """
        Args:
            network: whose weights to average.
            rule: how, one of the kinds of this package.
        """
        self.rule = rule
        self._parameters = {name for name, _ in network.named_parameters()}
        self._average = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after optimiser step `step`, counted from 1."""
        now = network.state_dict()
        averaged = [name for name in now if name in self._parameters]
        self.rule.update([self._average[n] for n in averaged], [now[n] for n in averaged], step)
        for name in now.keys() - self._parameters:
            self._average[name].copy_(now[name])

    def copy_to(self, network: nn.Module) -> None:
        """Overwrite a network's weights by the averaged ones."""
        network.load_state_dict(self._average)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights, named and shaped as the network's own state_dict (the tensors themselves)."""
        return dict(self._average)

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a saved average.

        Raises:
            UserError: names or shapes that are not this network's.
        """
        shapes = {name: value.shape for name, value in self._average.items()}
        if {name: value.shape for name, value in state.items()} != shapes:
            raise UserError("The saved average belongs to another network: delete it, or correct `network`.")
        for name, value in state.items():
            self._average[name].copy_(value)
