"""InstanceNorm++, which keeps what instance normalisation forgets: the mean of each channel."""

import torch
from torch import Tensor, nn

_EPS = 1e-5


def normalize(x: Tensor, gamma: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """gamma * ((x - mu) / s + alpha * (mu - m) / sqrt(v + 1e-5)) + beta (NCSN, appendix A.1).

    mu and s are the mean and the standard deviation of a channel of an instance, m and v the mean and the
    unbiased variance of mu over channels. gamma multiplies the alpha term too, as in the released networks
    and unlike the paper's formula.

    Args:
        x: features, (B, C, H, W), at least 2 channels.
        gamma, alpha, beta: (B, C), (1, C) or (C,).

    Returns:
        (B, C, H, W).
    """
    mean = x.mean((2, 3), keepdim=True)
    centred = x - mean  # two passes of plain arithmetic: on a CPU several times faster than var_mean
    variance = centred.square().mean((2, 3))
    spread, centre = torch.var_mean(mean[..., 0, 0], dim=1, keepdim=True)
    contrast = (mean[..., 0, 0] - centre) * (spread + _EPS).rsqrt()
    scale = gamma * (variance + _EPS).rsqrt()
    shift = torch.addcmul(beta, gamma * alpha, contrast)
    return torch.addcmul(shift[..., None, None], scale[..., None, None], centred)


class InstanceNorm2dPlus(nn.Module):
    """InstanceNorm++ of the unconditional network: one gamma, alpha and beta per channel."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.empty(num_features).normal_(1, 0.02))
        self.gamma = nn.Parameter(torch.empty(num_features).normal_(1, 0.02))
        self.beta = nn.Parameter(torch.zeros(num_features))

    def forward(self, x: Tensor, level: Tensor | None) -> Tensor:
        """Normalise x, (B, C, H, W); the level is ignored."""
        return normalize(x, self.gamma, self.alpha, self.beta)


class ConditionalInstanceNorm2dPlus(nn.Module):
    """InstanceNorm++ of the conditional network: gamma, alpha and beta per channel and noise level."""

    def __init__(self, num_features: int, num_levels: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(num_levels, 3 * num_features)
        with torch.no_grad():
            self.embed.weight[:, : 2 * num_features].normal_(1, 0.02)
            self.embed.weight[:, 2 * num_features :].zero_()

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """Normalise x, (B, C, H, W), for noise levels given as int64 (B,) or, one for all, (1,)."""
        gamma, alpha, beta = self.embed(level).chunk(3, dim=-1)
        return normalize(x, gamma, alpha, beta)


class NoNorm(nn.Module):
    """The place of a normalisation in a block that has none: x unchanged."""

    def forward(self, x: Tensor, level: Tensor | None) -> Tensor:
        """x itself."""
        return x
