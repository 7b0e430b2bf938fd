"""InstanceNorm++, which keeps what instance normalisation forgets, the mean of each channel; alone, and with ELU.

Half of a training step of a RefineNet on a CPU is arithmetic between its convolutions: a pass through memory for each
operation. `norm_elu` has a backward of its own, which takes half the passes of autograd's.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

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


def norm_elu(x: Tensor, gamma: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """ELU of `normalize`, equal to the two up to rounding, with all derivatives; arguments as there."""
    out: Tensor = _NormELU.apply(x, gamma, alpha, beta)  # type: ignore[no-untyped-call]
    return out


def elu_(x: Tensor) -> Tensor:
    """ELU in place of x, by an exponential: on a CPU faster than torch's, and equal up to rounding."""
    negative = x.clamp_max(0).exp_().sub_(1)
    return x.clamp_min_(0).add_(negative)


class _NormELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        """With r = 1 / std of a channel and t the standardised means: ELU(gamma (r (x - mean) + alpha t) + beta)."""
        mean = x.mean((2, 3), keepdim=True)
        centred = x - mean
        r = (centred.square().mean((2, 3)) + _EPS).rsqrt()
        spread, centre = torch.var_mean(mean[..., 0, 0], dim=1, keepdim=True)
        q = (spread + _EPS).rsqrt()
        contrast = (mean[..., 0, 0] - centre) * q
        shift = torch.addcmul(beta, gamma * alpha, contrast)
        out = elu_(torch.addcmul(shift[..., None, None], (gamma * r)[..., None, None], centred))
        ctx.save_for_backward(x, gamma, alpha, beta, mean, out, r, q, contrast)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of x, gamma, alpha and beta; autograd's own where they are to be differentiated again."""
        x, gamma, alpha, beta, mean, out, r, q, contrast = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _autograds([x, gamma, alpha, beta], gradients[0])
        g = out.clamp_max(0).add_(1).mul_(gradients[0])  # the slope of ELU is 1, or what it gives plus 1
        centred = x - mean
        total, along = g.sum((2, 3)), (g * centred).sum((2, 3))
        of_mean = _of_mean(gamma * alpha * total, contrast) * q
        scale, pixels = gamma * r, x.shape[2] * x.shape[3]
        linear, constant = -scale * r.square() * along / pixels, (of_mean - scale * total) / pixels
        g = g.mul_(scale[..., None, None]).addcmul_(linear[..., None, None], centred).add_(constant[..., None, None])
        own = (r * along + alpha * contrast * total, gamma * contrast * total, total)
        return (g, *(each.sum_to_size(gamma.shape) for each in own))


def _of_mean(of_contrast: Tensor, contrast: Tensor) -> Tensor:
    """The gradient of a channel's mean, over q, from that of the standardised means, (B, C)."""
    along = (of_contrast * contrast).sum(1, keepdim=True) / (contrast.shape[1] - 1)
    return of_contrast - of_contrast.mean(1, keepdim=True) - contrast * along


def _autograds(given: list[Tensor], gradient: Tensor) -> tuple[Tensor | None, ...]:
    wanted = [one for one in given if one.requires_grad]
    found = iter(torch.autograd.grad(F.elu(normalize(*given)), wanted, gradient, create_graph=True))
    return tuple(next(found) if one.requires_grad else None for one in given)
