"""AdamW: Adam with decoupled weight decay (I. Loshchilov, F. Hutter, arXiv 1711.05101)."""

from dataclasses import dataclass

import torch
from torch import nn

from pipeline.ncsn import eager
from pipeline.training.optimizers import check_betas, check_fractions, check_positive, weights_of


@dataclass(frozen=True)
class AdamW:
    """`torch.optim.AdamW`."""

    lr: float
    betas: tuple[float, float]
    """Rates of decay of the gradient's two moments."""
    eps: float
    """Added to the root of the second moment."""
    weight_decay: float
    """Each step multiplies every weight by 1 - lr * weight_decay."""

    def __post_init__(self) -> None:
        check_positive(lr=self.lr, eps=self.eps)
        check_fractions(weight_decay=self.weight_decay)
        object.__setattr__(self, "betas", check_betas(self.betas))

    def build(self, network: nn.Module) -> torch.optim.Optimizer:
        """The optimiser of a network's parameters."""
        return eager.EagerAdamW(
            weights_of(network),
            self.lr,
            self.betas,
            self.eps,
            weight_decay=self.weight_decay,
            fused=True,
        )
