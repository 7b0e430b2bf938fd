"""Adam (D. Kingma, J. Ba, arXiv 1412.6980), the optimiser of all three papers."""

from dataclasses import dataclass

import torch
from torch import nn

from pipeline.ncsn import eager
from pipeline.training.optimizers import check_betas, check_positive, weights_of


@dataclass(frozen=True)
class Adam:
    """`torch.optim.Adam`."""

    lr: float
    betas: tuple[float, float]
    """Rates of decay of the gradient's two moments."""
    eps: float
    """Added to the root of the second moment."""

    def __post_init__(self) -> None:
        check_positive(lr=self.lr, eps=self.eps)
        object.__setattr__(self, "betas", check_betas(self.betas))

    def build(self, network: nn.Module) -> torch.optim.Optimizer:
        """The optimiser of a network's parameters."""
        return eager.EagerAdam(weights_of(network), self.lr, self.betas, self.eps, fused=True)
