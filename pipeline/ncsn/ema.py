"""Exponential moving average of a network's weights (technique 5 of NCSNv2, arXiv 2006.09011)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .errors import UserError


class ExponentialMovingAverage:
    """The average of the weights over the optimiser's steps: rate * average + (1 - rate) * weights.

    It starts as the weights at construction. Buffers are copied, not averaged.
    """

    def __init__(self, network: nn.Module, rate: float) -> None:
        """
        Args:
            network: whose weights to follow.
            rate: the weight of the past, in [0, 1); 0 keeps the current weights, 0.999 is NCSNv2's.

        Raises:
            UserError: a rate outside [0, 1).
        """
        if not 0 <= rate < 1:
            raise UserError(f"ema_rate is {rate}: it must be at least 0 and below 1.")
        self.rate = rate
        self._parameters = {name for name, _ in network.named_parameters()}
        self._average = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the weights after an optimiser step."""
        now = network.state_dict()
        averaged = [name for name in now if name in self._parameters]
        torch._foreach_lerp_(
            [self._average[name] for name in averaged], [now[name] for name in averaged], 1 - self.rate
        )
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
            raise UserError("The saved average belongs to another network: delete it, or mend `network`.")
        for name, value in state.items():
            self._average[name].copy_(value)
