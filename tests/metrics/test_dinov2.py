"""DINOv2 with random weights: the network as its papers write it; weights are believed by what they hold."""

import math
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.files import sha256
from pipeline.metrics import evaluate_row, features, inputs, selftest
from pipeline.metrics.build import build
from pipeline.metrics.features.dinov2 import MEAN, STD, DINOv2, DINOv2Space, _positions
from pipeline.ncsn.errors import UserError

WIDTH, DEPTH = 128, 2
Weights = dict[str, Tensor]


def linear(name: str, to: int, *of: int) -> Weights:
    return {
        f"{name}.weight": torch.randn(to, *of) / math.sqrt(math.prod(of)),
        f"{name}.bias": torch.randn(to),
    }


def norm(name: str) -> Weights:
    return {f"{name}.weight": torch.randn(WIDTH), f"{name}.bias": torch.randn(WIDTH)}


@pytest.fixture(scope="module")
def weights() -> Weights:
    """Under the authors' names, of their shapes but for the width and the number of blocks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = linear("patch_embed.proj", WIDTH, 3, 14, 14) | norm("norm")
        for name, shape in {"cls_token": (1, 1), "pos_embed": (1, 1 + 37**2), "mask_token": (1,)}.items():
            found[name] = torch.randn(*shape, WIDTH)
        for k in range(DEPTH):
            block = f"blocks.{k}"
            found |= norm(f"{block}.norm1") | norm(f"{block}.norm2")
            found |= {f"{block}.ls{i}.gamma": torch.randn(WIDTH) for i in (1, 2)}
            found |= linear(f"{block}.attn.qkv", 3 * WIDTH, WIDTH) | linear(f"{block}.attn.proj", WIDTH, WIDTH)
            found |= linear(f"{block}.mlp.fc1", 4 * WIDTH, WIDTH) | linear(f"{block}.mlp.fc2", WIDTH, 4 * WIDTH)
        return found


@pytest.fixture(scope="module")
def space(weights: Weights) -> DINOv2Space:
    return DINOv2Space(weights, "ab" * 32)


def pictures(n: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, 3, size, size), dtype=np.uint8)


def as_written(w: Weights, images: np.ndarray) -> Tensor:
    """arXiv 2010.11929, eq. 1 to 4, each branch scaled as in 2103.17239, eq. 3; attention written out."""

    def normed(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (WIDTH,), w[f"{name}.weight"], w[f"{name}.bias"], 1e-6)

    def layer(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def attention(x: Tensor, name: str) -> Tensor:
        parts = layer(x, f"{name}.qkv").chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (WIDTH // 64, 64)).transpose(1, 2) for part in parts)
        heads = (q @ k.mT / math.sqrt(64)).softmax(dim=-1) @ v
        return layer(heads.transpose(1, 2).flatten(2), f"{name}.proj")

    x = F.interpolate(torch.from_numpy(images).float(), (224, 224), mode="bicubic", antialias=True)
    x = (x / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    patches = x.unfold(2, 14, 14).unfold(3, 14, 14).permute(0, 2, 3, 1, 4, 5).reshape(len(x), 256, -1)
    x = patches @ w["patch_embed.proj.weight"].flatten(1).T + w["patch_embed.proj.bias"]
    x = x + _positions(w["pos_embed"][:, 1:])
    x = torch.cat([(w["cls_token"] + w["pos_embed"][:, :1]).expand(len(x), 1, WIDTH), x], dim=1)
    for k in range(DEPTH):
        block = f"blocks.{k}"
        x = x + w[f"{block}.ls1.gamma"] * attention(normed(x, f"{block}.norm1"), f"{block}.attn")
        hidden = F.gelu(layer(normed(x, f"{block}.norm2"), f"{block}.mlp.fc1"))
        x = x + w[f"{block}.ls2.gamma"] * layer(hidden, f"{block}.mlp.fc2")
    return normed(x, "norm")[:, 0]


def test_features_are_the_papers_class_token(space: DINOv2Space, weights: Weights) -> None:
    images = pictures(3)
    found = space.features(images)
    assert found.shape == (3, WIDTH) and found.dtype == np.float32
    np.testing.assert_allclose(found, as_written(weights, images).numpy(), atol=1e-4)
    np.testing.assert_array_equal(space.features(images[1:]), found[1:])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(space)).features(images), found)
    assert space.name == "DINOv2 ViT of width 128, class token, weights sha256 abababab"


def test_no_kernel_that_approximates_gelu_on_a_gpu(space: DINOv2Space) -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        space.features(pictures(1))
    names = {event.key for event in profile.key_averages()}
    assert "aten::gelu" in names and "aten::_addmm_activation" not in names


def test_positions_are_those_of_the_middles_of_the_patches() -> None:
    """A plane over the trained grid stays the plane, in terms of its 37 rows: 37 / 16.1 of them a patch."""
    rows = torch.arange(37.0)
    plane = torch.stack(torch.meshgrid(rows, rows, indexing="ij"), dim=-1).reshape(1, 37**2, 2)
    found = _positions(plane).reshape(16, 16, 2)
    middles = (torch.arange(16.0) + 0.5) * 37 / 16.1 - 0.5
    inside = slice(1, 15)  # at the rim the cubic has no neighbours; on a plane it errs by up to 0.05
    torch.testing.assert_close(found[inside, 5, 0], middles[inside], atol=0.06, rtol=0)
    torch.testing.assert_close(found[5, inside, 1], middles[inside], atol=0.06, rtol=0)
    torch.testing.assert_close(_positions(plane[:, : 16**2]), plane[:, : 16**2])


def test_the_stage_keeps_it_and_no_inception_score_is_made_up(
    weights: Weights, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "selftest", lambda train, held_out: [])
    path = tmp_path / "dinov2.pth"
    torch.save(weights, path)
    splits = [(pictures(n), np.zeros(n, np.int64)) for n in (6, 5)]
    made = build(tmp_path / "features", *splits, DINOv2(str(path), sha256(path)))
    loaded = features.load_space(tmp_path / "features")
    assert loaded.name == made["evaluator"] and loaded.name.startswith("DINOv2")
    sets = [inputs.Described.by(loaded, images) for images, _ in splits]
    settings = {
        "nearest_k": 2,
        "kid_subsets": 2,
        "kid_subset_size": 4,
        "splits": 2,
        "fid_points": 0,
        "seed": 0,
    }
    found = evaluate_row.evaluate(inputs.ImageInputs(sets[1], sets[0], SimpleNamespace(**settings)))
    assert found["inception_score"] is None and found["inception_score_std"] is None
    assert found["fid"] == pytest.approx(made["floor_fid"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"register_tokens": torch.zeros(1, 4, WIDTH)}, "register_tokens"),
        ({"blocks.0.mlp.w12.weight": torch.zeros(2), "blocks.0.mlp.fc1.bias": None}, r"blocks\.0\.mlp\.fc1"),
        ({"cls_token": None}, "cls_token"),
        ({"norm.bias": torch.zeros(3)}, "norm"),
    ],
)
def test_weights_of_another_network(weights: Weights, tmp_path, change: dict[str, Tensor | None], said: str) -> None:
    path = tmp_path / "other.pth"
    torch.save({name: value for name, value in (weights | change).items() if value is not None}, path)
    with pytest.raises(UserError, match=rf"(?s)does not hold DINOv2's ViT.*{said}"):
        DINOv2(str(path), sha256(path)).read()


def test_grey_images_are_refused(space: DINOv2Space) -> None:
    with pytest.raises(UserError, match=r"not for features\.kind dinov2"):
        space.features(np.zeros((2, 1, 8, 8), np.uint8))
