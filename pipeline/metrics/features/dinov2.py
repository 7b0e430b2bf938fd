"""DINOv2, whose FID agrees with human judgement where Inception's does not (arXiv 2306.04675).

The network is a vision transformer (arXiv 2010.11929) with LayerScale (arXiv 2103.17239), of which torch has
all but the patches, the positions and the scale; the last is folded into the weights before it. Images are
blown up to 224 pixels (bicubic) and normalised as by EDM2's evaluator; the feature is the class token behind
the last norm.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate

from pipeline.metrics.features._pretrained import Pretrained, PretrainedSpace
from pipeline.ncsn.errors import UserError

PATCH, SIDE = 14, 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_OFFSET = 0.1  # patches that the authors add before they interpolate positions
_HEAD = 64  # numbers of a token in each head, in all of their sizes
NAMES = (
    ("norm1", "norm1."),
    ("attn.qkv", "self_attn.in_proj_"),
    ("attn.proj", "self_attn.out_proj.", "ls1"),
    ("norm2", "norm2."),
    ("mlp.fc1", "linear1."),
    ("mlp.fc2", "linear2.", "ls2"),
)
"""The layers of a block: the authors' name, torch's, and that of the LayerScale behind it."""
OTHERS = {"cls_token", "pos_embed", "mask_token"}


class DINOv2Space(PretrainedSpace):
    """Features (N, D), D 384, 768 or 1024 for ViT-S, B and L; no classes, so there is no inception score."""

    kind = "dinov2"

    def both(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Images uint8 (N, 3, H, W) -> (N, D) and (N, 0); raises UserError where they are no such images."""
        (found,) = self.outputs(images, lambda chunk: (self.network(chunk),))
        return found.numpy(), np.empty((len(images), 0), np.float32)

    @property
    def name(self) -> str:
        """Network, layer and weights."""
        width = self.weights["cls_token"].shape[-1]
        return f"DINOv2 ViT of width {width}, class token, weights sha256 {self.sha256[:8]}"

    def make(self) -> nn.Module:
        """The vision transformer."""
        try:
            return VisionTransformer(self.weights).eval().requires_grad_(False)
        except (KeyError, RuntimeError) as error:
            raise UserError(
                f"features.weights does not hold DINOv2's ViT-S, B or L without registers: {error}"
            ) from error


@dataclass(frozen=True)
class DINOv2(Pretrained):
    """DINOv2's vision transformer, for RGB images."""

    space = DINOv2Space
    url = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth"


class VisionTransformer(nn.Module):
    """DINOv2's network from its weights; raises KeyError or RuntimeError where they are another's."""

    first: Tensor
    """(1, 1, D): the class token with its position."""
    positions: Tensor
    """(1, 16^2, D)."""
    mean: Tensor
    std: Tensor

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        width, hidden = weights["cls_token"].shape[-1], len(weights["blocks.0.mlp.fc1.bias"])
        depth = 1 + max(int(key.split(".")[1]) for key in weights if key.startswith("blocks."))
        self.patches = nn.Conv2d(3, width, PATCH, PATCH)
        exact = partial(gelu, approximate="none")  # torch's fused "gelu" is its tanh approximation on a GPU
        block = nn.TransformerEncoderLayer(
            width, width // _HEAD, hidden, 0.0, exact, 1e-6, batch_first=True, norm_first=True
        )
        norm = nn.LayerNorm(width, 1e-6)
        self.blocks = nn.TransformerEncoder(block, depth, norm, enable_nested_tensor=False)
        self.load_state_dict(_renamed(weights, depth))
        self.register_buffer("first", weights["cls_token"] + weights["pos_embed"][:, :1])
        self.register_buffer("positions", _positions(weights["pos_embed"][:, 1:]))
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (N, 3, H, W) -> (N, D)."""
        size = (SIDE, SIDE)
        x = interpolate(images.float(), size, mode="bicubic", antialias=True) / 255
        tokens = self.patches((x - self.mean) / self.std).flatten(2).transpose(1, 2) + self.positions
        found: Tensor = self.blocks(torch.cat([self.first.expand(len(x), -1, -1), tokens], dim=1))[:, 0]
        return found


def _renamed(weights: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    """The weights under torch's names, each LayerScale multiplied into the layer before it."""
    found, left = {}, dict(weights)

    def take(theirs: str, ours: str, scale: str = "") -> None:
        gamma = weights[f"{scale}.gamma"] if scale else torch.ones(1)
        left.pop(f"{scale}.gamma", None)
        for kind in ("weight", "bias"):
            found[ours + kind] = (left.pop(f"{theirs}.{kind}").movedim(0, -1) * gamma).movedim(-1, 0)

    take("patch_embed.proj", "patches.")
    take("norm", "blocks.norm.")
    for k in range(depth):
        for theirs, ours, *scale in NAMES:
            take(f"blocks.{k}.{theirs}", f"blocks.layers.{k}.{ours}", *(f"blocks.{k}.{s}" for s in scale))
    if unknown := left.keys() - OTHERS:
        raise KeyError(f"it also has {sorted(unknown)[0]}")
    return found


def _positions(trained: Tensor) -> Tensor:
    """(1, M^2, D), of the size that was trained on, to (1, 16^2, D)."""
    side, count = math.isqrt(trained.shape[1]), SIDE // PATCH
    grid = trained.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    if side != count:
        grid = interpolate(grid, scale_factor=[(count + _OFFSET) / side] * 2, mode="bicubic")
    return grid.flatten(2).transpose(1, 2)
