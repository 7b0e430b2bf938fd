"""The networks' normalisations: InstanceNorm++ with one set of weights or one for each noise level, and none."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._instance_norm import elu_, norm_elu, normalize

Rows = Mapping[nn.Module, Tensor]
"""By conditional normalisation, the row of its table for each image: (B, 3 C) or, one for all, (1, 3 C)."""


def gather(network: nn.Module, level: Tensor) -> Rows:
    """The rows of all tables of a network at noise levels, int64 (B,) or (1,): one look-up instead of dozens."""
    norms = [module for module in network.modules() if isinstance(module, ConditionalInstanceNorm2dPlus)]
    rows = torch.cat([norm.embed.weight for norm in norms], dim=1).index_select(0, level)
    return dict(zip(norms, torch.split(rows, [norm.embed.embedding_dim for norm in norms], dim=1), strict=True))


def _normalized(x: Tensor, gamma: Tensor, alpha: Tensor, beta: Tensor, *, elu: bool) -> Tensor:
    """InstanceNorm++, then ELU if asked for: as one where a gradient will be taken, which it speeds up most."""
    if not elu:
        return normalize(x, gamma, alpha, beta)
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():  # torch.compile fuses the plain formula itself
        return norm_elu(x, gamma, alpha, beta)
    return elu_(normalize(x, gamma, alpha, beta))


class InstanceNorm2dPlus(nn.Module):
    """InstanceNorm++ of the unconditional network: one gamma, alpha and beta per channel."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.empty(num_features).normal_(1, 0.02))
        self.gamma = nn.Parameter(torch.empty(num_features).normal_(1, 0.02))
        self.beta = nn.Parameter(torch.zeros(num_features))

    def forward(self, x: Tensor, level: Tensor | None, *, elu: bool = False) -> Tensor:
        """Normalise x, (B, C, H, W), and maybe apply ELU; the level is ignored."""
        return _normalized(x, self.gamma, self.alpha, self.beta, elu=elu)


class ConditionalInstanceNorm2dPlus(nn.Module):
    """InstanceNorm++ of the conditional network: gamma, alpha and beta per channel and noise level."""

    def __init__(self, num_features: int, num_levels: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(num_levels, 3 * num_features)
        with torch.no_grad():
            self.embed.weight[:, : 2 * num_features].normal_(1, 0.02)
            self.embed.weight[:, 2 * num_features :].zero_()

    def forward(self, x: Tensor, level: Tensor | Rows, *, elu: bool = False) -> Tensor:
        """Normalise x, (B, C, H, W), for noise levels given as int64 (B,) or, one for all, (1,); maybe ELU.

        Of a whole network the rows of all tables are given instead, see `gather`.
        """
        rows = self.embed(level) if isinstance(level, Tensor) else level[self]
        gamma, alpha, beta = rows.chunk(3, dim=-1)
        return _normalized(x, gamma, alpha, beta, elu=elu)


class NoNorm(nn.Module):
    """The place of a normalisation in a block that has none: x unchanged."""

    def forward(self, x: Tensor, level: Tensor | None, *, elu: bool = False) -> Tensor:
        """x itself, or its ELU."""
        return F.elu(x) if elu else x
