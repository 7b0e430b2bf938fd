"""Muon for the hidden layers' matrices and kernels, AdamW for all other weights.

`torch.optim.Muon` takes matrices alone and refuses anything else. As its authors do, a kernel (O, I, h, w) is
trained as the matrix (O, I h w). Biases, norms, embeddings and the first and the last layer stay with AdamW,
as they and torch's documentation advise. "match_rms_adamw" scales an update so that both can share one
learning rate.

References:
    K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024,
        https://kellerjordan.github.io/posts/muon.
    J. Liu et al., "Muon is Scalable for LLM Training", arXiv 2502.16982.
"""

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.ncsn import eager
from pipeline.training.optimizers import check_betas, check_fractions, check_positive, weights_of

_ENDS = ("begin_conv", "end_conv")
"""What networks call their first and last layers."""


@dataclass(frozen=True)
class Muon:
    """`torch.optim.Muon` together with `torch.optim.AdamW`."""

    lr: float
    """Of both."""
    momentum: float
    """Of Muon, with Nesterov's correction; 0.95 by its authors."""
    betas: tuple[float, float]
    """AdamW's rates of decay of the gradient's two moments."""
    eps: float
    """Of AdamW, added to the root of the second moment."""
    weight_decay: float
    """Of both: each step multiplies every weight by 1 - lr * weight_decay."""

    def __post_init__(self) -> None:
        check_positive(lr=self.lr, eps=self.eps)
        check_fractions(momentum=self.momentum, weight_decay=self.weight_decay)
        object.__setattr__(self, "betas", check_betas(self.betas))

    def build(self, network: nn.Module) -> "_MuonWithAdamW":
        """The two optimisers of a network's parameters, as one."""
        hidden = list(_hidden(network))
        ids = {id(weight) for weight in hidden}
        return _MuonWithAdamW(hidden, [w for w in weights_of(network) if id(w) not in ids], self)


def _hidden(network: nn.Module) -> Iterator[Tensor]:
    """The matrices and kernels of all layers but the first, the last and embeddings."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Embedding) or name.split(".")[-1] in _ENDS:
            continue
        yield from (w for w in module.parameters(recurse=False) if w.ndim > 1 and w.requires_grad)


def _muon(matrices: list[nn.Parameter], settings: Muon) -> torch.optim.Optimizer:
    return eager.EagerMuon(
        matrices,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        momentum=settings.momentum,
        adjust_lr_fn="match_rms_adamw",
    )


def _adamw(weights: list[Tensor], settings: Muon) -> torch.optim.Optimizer:
    return eager.EagerAdamW(
        weights, settings.lr, settings.betas, settings.eps, weight_decay=settings.weight_decay, fused=True
    )


class _MuonWithAdamW:
    """Two optimisers as one, whose state is named by the network's own parameters.

    Muon's parameters are matrices that share their memory with the kernels, so that no weight is copied.
    """

    def __init__(self, hidden: list[Tensor], rest: list[Tensor], settings: Muon) -> None:
        self._pairs = [(weight, nn.Parameter(weight.detach().view(len(weight), -1))) for weight in hidden]
        self._parts: list[torch.optim.Optimizer] = []
        if hidden:
            self._parts.append(_muon([matrix for _, matrix in self._pairs], settings))
        if rest:
            self._parts.append(_adamw(rest, settings))
        self.state = self._shared_state(rest)

    def _shared_state(self, rest: list[Tensor]) -> MutableMapping[Any, Any]:
        """By the network's parameters, the very dictionaries that the two optimisers read and write."""
        own = {weight: self._parts[0].state[matrix] for weight, matrix in self._pairs}
        return own | {weight: self._parts[-1].state[weight] for weight in rest}

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of both; changing a learning rate there changes theirs."""
        return [group for part in self._parts for group in part.param_groups]

    def step(self) -> None:
        """Change the weights by their gradients."""
        for weight, matrix in self._pairs:
            matrix.grad = None if weight.grad is None else weight.grad.view_as(matrix)
        for part in self._parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for weight, _ in self._pairs:
            weight.grad = None
        for part in self._parts:
            part.zero_grad(set_to_none=True)
