"""The released networks of 2019 and 2020 as plain functions of their state dicts: an independent path.

Names, shapes and order of operations are those of the authors' checkpoints (arXiv 1907.05600, 2006.09011);
nothing here knows the pipeline. `state` makes weights in that format, `score` computes from them.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
Shapes = Iterator[tuple[str, torch.Size]]
CASCADES = {  # finest first: name, its refine block, width as a multiple of ngf, dilation
    4: [("res1", "refine4", 1, 1), ("res2", "refine3", 2, 1), ("res3", "refine2", 2, 2)],
    5: [("res1", "refine5", 1, 1), ("res2", "refine4", 2, 1), ("res3", "refine3", 2, 1)],
}
CASCADES[6] = [*CASCADES[5], ("res31", "refine31", 2, 1)]
CASCADES[4] += [("res4", "refine1", 2, 4)]
for deep in (5, 6):
    CASCADES[deep] += [("res4", "refine2", 4, 2), ("res5", "refine1", 4, 4)]


def state(*, channels: int, ngf: int, levels: int | None, cascades: int = 4, seed: int = 0) -> State:
    """Random weights under the released names; conditional (2019) where `levels` is their number."""
    generator = torch.Generator().manual_seed(seed)
    made = {
        name: torch.randn(shape, generator=generator) * (0.3 if len(shape) < 3 else shape[1:].numel() ** -0.5)
        for name, shape in _shapes(channels, ngf, levels, cascades)
    }
    return {name: value + 1 if name.endswith(("gamma", "embed.weight")) else value for name, value in made.items()}


def _shapes(channels: int, ngf: int, levels: int | None, cascades: int) -> Shapes:
    def conv(name: str, c_in: int, c_out: int, size: int = 3, bias: bool = True) -> Shapes:
        yield f"{name}.weight", torch.Size((c_out, c_in, size, size))
        if bias:
            yield f"{name}.bias", torch.Size((c_out,))

    def norm(name: str, width: int) -> Shapes:
        if levels:
            yield f"{name}.embed.weight", torch.Size((levels, 3 * width))
        else:
            yield from ((f"{name}.{key}", torch.Size((width,))) for key in ("alpha", "gamma", "beta"))

    def units(name: str, width: int, blocks: int) -> Shapes:
        for k in range(1, blocks + 1):
            for j in (1, 2):
                yield from conv(f"{name}.{k}_{j}_conv", width, width, bias=False)
                if levels:
                    yield from norm(f"{name}.{k}_{j}_norm", width)

    yield from conv("begin_conv", channels, ngf)
    yield from norm("normalizer", ngf)
    yield from conv("end_conv", ngf, channels)
    plan, finer = CASCADES[cascades], ngf
    for k, (down, up, multiple, dilation) in enumerate(plan):
        width, pooled = multiple * ngf, k > 0 and dilation == 1
        for block in (0, 1):
            name, c_in, begins = f"{down}.{block}", width if block else finer, k > 0 and block == 0
            yield from norm(f"{name}.normalize1", c_in)
            yield from conv(f"{name}.conv1", c_in, c_in)
            yield from norm(f"{name}.normalize2", c_in)
            yield from conv(f"{name}.conv2{'.conv' if pooled and begins else ''}", c_in, width)
            if begins and pooled:
                yield from conv(f"{name}.shortcut.conv", c_in, width, 1)
            elif begins:
                yield from conv(f"{name}.shortcut", c_in, width)
        inputs = 1 if k == len(plan) - 1 else 2
        for i in range(inputs):
            yield from units(f"{up}.adapt_convs.{i}", width, 2)
            if inputs == 2:
                yield from conv(f"{up}.msf.convs.{i}", width, finer)
                if levels:
                    yield from norm(f"{up}.msf.norms.{i}", width)
        for i in range(2):
            yield from conv(f"{up}.crp.convs.{i}", finer, finer, bias=False)
            if levels:
                yield from norm(f"{up}.crp.norms.{i}", finer)
        yield from units(f"{up}.output_convs", finer, 1 if k else 3)
        finer = width


def score(weights: State, x: Tensor, level: Tensor, sigmas: Tensor, cascades: int = 4) -> Tensor:
    """The score of images in [0, 1], (B, C, H, W), at levels int64 (B,) of a ladder (L,)."""
    conditional = "normalizer.embed.weight" in weights

    def conv(name: str, h: Tensor, dilation: int = 1) -> Tensor:
        weight = weights[f"{name}.weight"]
        pad = dilation * (weight.shape[-1] // 2)
        return F.conv2d(h, weight, weights.get(f"{name}.bias"), padding=pad, dilation=dilation)

    def norm(name: str, h: Tensor) -> Tensor:
        if conditional:
            gamma, alpha, beta = weights[f"{name}.embed.weight"][level].chunk(3, dim=1)
        else:
            gamma, alpha, beta = (weights[f"{name}.{key}"][None] for key in ("gamma", "alpha", "beta"))
        mean = h.mean((2, 3))
        contrast = (mean - mean.mean(1, keepdim=True)) / torch.sqrt(mean.var(1, keepdim=True) + 1e-5)
        h = F.instance_norm(h) + (alpha * contrast)[:, :, None, None]
        return gamma[:, :, None, None] * h + beta[:, :, None, None]

    def refine_norm(name: str, h: Tensor) -> Tensor:
        return norm(name, h) if conditional else h

    def convolved(name: str, h: Tensor, dilation: int) -> Tensor:
        if f"{name}.weight" in weights:
            return conv(name, h, dilation)
        h = conv(f"{name}.conv", h)
        return (h[:, :, ::2, ::2] + h[:, :, 1::2, ::2] + h[:, :, ::2, 1::2] + h[:, :, 1::2, 1::2]) / 4

    def residual(name: str, h: Tensor, dilation: int) -> Tensor:
        out = conv(f"{name}.conv1", F.elu(norm(f"{name}.normalize1", h)), dilation)
        out = convolved(f"{name}.conv2", F.elu(norm(f"{name}.normalize2", out)), dilation)
        changes = any(key.startswith(f"{name}.shortcut") for key in weights)
        return out + (convolved(f"{name}.shortcut", h, dilation) if changes else h)

    def units(name: str, h: Tensor, blocks: int) -> Tensor:
        for k in range(1, blocks + 1):
            out = h
            for j in (1, 2):
                out = conv(f"{name}.{k}_{j}_conv", F.elu(refine_norm(f"{name}.{k}_{j}_norm", out)))
            h = out + h
        return h

    def refine(name: str, inputs: list[Tensor], last: bool) -> Tensor:
        parts = [units(f"{name}.adapt_convs.{i}", h, 2) for i, h in enumerate(inputs)]
        h = parts[0]
        if len(parts) > 1:
            size = h.shape[2:]
            normed = [refine_norm(f"{name}.msf.norms.{i}", part) for i, part in enumerate(parts)]
            fused = [conv(f"{name}.msf.convs.{i}", part) for i, part in enumerate(normed)]
            h = sum(F.interpolate(f, size=size, mode="bilinear", align_corners=True) for f in fused)
        h = path = F.elu(h)
        for i in range(2):
            path = refine_norm(f"{name}.crp.norms.{i}", path)
            path = F.avg_pool2d(path, 5, 1, 2) if conditional else F.max_pool2d(path, 5, 1, 2)
            path = conv(f"{name}.crp.convs.{i}", path)
            h = h + path
        return units(f"{name}.output_convs", h, 3 if last else 1)

    h, features = conv("begin_conv", 2 * x - 1), []
    for down, _, _, dilation in CASCADES[cascades]:
        h = residual(f"{down}.1", residual(f"{down}.0", h, dilation), dilation)
        features.append(h)
    plan = list(zip(CASCADES[cascades], features, strict=True))
    for k, ((_, up, _, _), feature) in reversed(list(enumerate(plan))):
        h = refine(up, [feature] if k == len(plan) - 1 else [feature, h], last=k == 0)
    out = conv("end_conv", F.elu(norm("normalizer", h)))
    return out if conditional else out / sigmas[level].view(-1, 1, 1, 1)
