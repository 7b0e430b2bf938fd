"""The U-Net: EDM's preconditioning and its blocks to their formulas; it learns a known score."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.networks import make_network
from pipeline.ncsn.networks._unet_blocks import NoiseEmbedding, Pointwise, SelfAttention, UNetBlock
from pipeline.ncsn.networks.unet import SIGMA_DATA, UNet, UNetSettings
from pipeline.toy.mixture import GaussianMixture

SIGMAS = torch.tensor([1e-3, 0.02, 0.5, 7.0, 100.0])
EMBEDDING = 12


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fresh(size: int = 8, **settings: object) -> UNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make_network("unet", **{"channels": 1, "image_size": size, "width": 8} | settings)
    assert isinstance(network, UNet)
    return network


def awake(module: nn.Module) -> nn.Module:
    """With random numbers where it begins at zero."""
    draws = generator(1)
    for parameter in module.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2, generator=draws)
    return module


def noisy(sigma: Tensor, size: int = 8) -> Tensor:
    draws = generator(2)
    clean = torch.rand(len(sigma), 1, size, size, generator=draws)
    return clean + sigma.view(-1, 1, 1, 1) * torch.randn(clean.shape, generator=draws)


def table_1(s: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """c_skip, c_out, c_in, c_noise as EDM's table 1 has them, for s (B, 1, 1, 1)."""
    total = s**2 + SIGMA_DATA**2
    return SIGMA_DATA**2 / total, s * SIGMA_DATA / total.sqrt(), 1 / total.sqrt(), s.log().flatten() / 4


def denoised(network: nn.Module, x: Tensor, sigma: Tensor) -> Tensor:
    """The denoiser the score implies, for pixels in [-1, 1]."""
    return 2 * (x + sigma.view(-1, 1, 1, 1) ** 2 * network(x, sigma)) - 1


def test_the_denoiser_is_edms() -> None:
    network, sigma = awake(fresh()).double(), SIGMAS.double()
    x = noisy(SIGMAS).double()
    y, s = 2 * x - 1, 2 * sigma.view(-1, 1, 1, 1)
    c_skip, c_out, c_in, c_noise = table_1(s)
    expected = c_skip * y + c_out * network.raw(c_in * y, c_noise)
    torch.testing.assert_close(denoised(network, x, sigma), expected)


def test_it_begins_as_the_exact_score_of_gaussian_pixels() -> None:
    """c_skip y, the posterior mean of data of standard deviation SIGMA_DATA: a quarter for x in [0, 1]."""
    gaussian = GaussianMixture([1.0], torch.full((1, 1, 8, 8), 0.5), SIGMA_DATA / 2)
    x = noisy(SIGMAS)
    torch.testing.assert_close(fresh()(x, SIGMAS), gaussian.score(x, SIGMAS))


@pytest.mark.parametrize("sigma", [0.01, 0.3, 20.0])
def test_what_goes_in_and_what_is_to_come_out_have_unit_variance(sigma: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """For data of standard deviation SIGMA_DATA; the score is affine in F, so that its target is found."""
    network, seen = fresh(), []

    def constant(value: float, x: Tensor) -> Tensor:
        def raw(scaled: Tensor, c_noise: Tensor) -> Tensor:
            seen.append(scaled)
            return torch.full_like(scaled, value)

        monkeypatch.setattr(network, "raw", raw)
        return network(x, torch.tensor(sigma))

    clean = 0.5 + SIGMA_DATA / 2 * torch.randn(400, 1, 8, 8, generator=generator(3))
    noise = torch.randn(clean.shape, generator=generator(4))
    x = clean + sigma * noise
    at_zero, at_one = constant(0.0, x), constant(1.0, x)
    target = (-noise / sigma - at_zero) / (at_one - at_zero)
    assert seen[0].std().item() == pytest.approx(1, rel=0.02)
    assert target.std().item() == pytest.approx(1, rel=0.02)


def test_single_precision_holds_from_the_smallest_noise_to_the_largest() -> None:
    network, x = awake(fresh()), noisy(SIGMAS)
    single = network(x, SIGMAS)
    double = network.double()(x.double(), SIGMAS.double())
    scale = double.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    torch.testing.assert_close((single / scale).double(), double / scale, rtol=0, atol=1e-5)


def test_the_network_knows_the_noise_level() -> None:
    network, x = awake(fresh()), noisy(SIGMAS)
    outputs = [network.raw(x, c_noise.expand(5)) for c_noise in torch.tensor([-1.0, 0.0, 0.001])]
    assert (outputs[1] - outputs[0]).abs().mean() > 10 * (outputs[2] - outputs[1]).abs().mean() > 0


@pytest.mark.parametrize(
    ("size", "sizes", "attended"),
    [(8, {1}, set()), (28, {28, 14, 7}, {7}), (32, {32, 16, 8}, {8}), (64, {64, 32, 16, 8}, {16, 8})],
)
def test_a_preset_has_its_resolutions_and_every_weight_a_gradient(
    size: int, sizes: set[int], attended: set[int]
) -> None:
    network, seen = awake(fresh(size, width=4)), {UNetBlock: set(), SelfAttention: set()}
    for module in network.modules():
        if type(module) in seen:
            note = seen[type(module)]
            module.register_forward_hook(lambda _, __, out, note=note: note.add(out.shape[-1]))
    score = network(noisy(SIGMAS[1:2], size), SIGMAS[1])
    assert score.shape == (1, 1, size, size)
    assert (seen[UNetBlock], seen[SelfAttention]) == (sizes, attended)
    score.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.ne(0).float().mean() > 0.5, name


def test_a_given_layout_takes_the_place_of_the_preset() -> None:
    network = fresh(multiples=[1, 3, 1], blocks=[1, 2, 1], attention=[], patch=1)
    assert [len(stage.blocks) for stage in network.down] == [1, 2, 1]
    assert [stage.blocks[-1].conv2.out_channels for stage in network.up] == [8, 24, 8]
    assert not any(isinstance(module, SelfAttention) for module in network.modules())
    assert UNetSettings(8, (1,), (1,), (), 1).layout(128).blocks == (1,)


def test_on_the_way_up_a_resolution_is_joined_by_its_own_features() -> None:
    network, seen = awake(fresh(multiples=[1, 2], blocks=[1, 1], patch=1)), {}
    for name in ("down.0", "merge.0"):
        network.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    network.up[0].register_forward_pre_hook(lambda _, inputs: seen.update({"up.0": inputs[0]}))
    network(noisy(SIGMAS), SIGMAS)
    coarse = seen["merge.0"].repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(seen["up.0"], (seen["down.0"] + coarse) / math.sqrt(2))


def test_a_patch_is_a_square_of_pixels() -> None:
    network, seen = fresh(multiples=[1], blocks=[1], patch=4), []
    network.begin_conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.arange(64.0).view(1, 1, 8, 8)
    network.raw(image, torch.zeros(1))
    torch.testing.assert_close(seen[0][0, :, 1, 0], image[0, 0, 4:, :4].flatten())
    torch.testing.assert_close(F.pixel_shuffle(seen[0], 4), image)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_pointwise_layer_is_a_convolution(layout: torch.memory_format) -> None:
    layer, x = Pointwise(6, 4), torch.randn(2, 6, 3, 5, generator=generator()).to(memory_format=layout)
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight[:, :, None, None], layer.bias))


@pytest.mark.parametrize(("down", "kernel_size"), [(False, 3), (True, 3), (False, 1)])
def test_a_residual_block_is_its_formula(down: bool, kernel_size: int) -> None:
    block = awake(UNetBlock(8, 12, EMBEDDING, down=down, kernel_size=kernel_size))
    x = torch.randn(3, 8, 6, 6, generator=generator())
    embedding = torch.randn(3, EMBEDDING, generator=generator())
    halved = nn.AvgPool2d(2) if down else nn.Identity()
    scale, shift = F.linear(embedding, block.modulation.weight, block.modulation.bias).split(12, dim=1)
    groups = (2, 3) if kernel_size == 3 else (1, 1)
    h = block.conv1(halved(F.silu(F.group_norm(x, groups[0], block.norm1.weight, block.norm1.bias))))
    h = F.group_norm(h, groups[1]) * (1 + scale[:, :, None, None]) + shift[:, :, None, None]
    expected = (block.conv2(F.silu(h)) + block.shortcut(halved(x))) / math.sqrt(2)
    torch.testing.assert_close(block(x, embedding), expected)


@pytest.mark.parametrize(("channels", "heads"), [(12, 1), (128, 2)])
def test_attention_is_its_formula(channels: int, heads: int) -> None:
    attention = awake(SelfAttention(channels))
    x = torch.randn(2, channels, 3, 4, generator=generator())
    query, key, value = attention.qkv(attention.norm(x)).flatten(2).split(channels, dim=1)
    parts = []
    for head in torch.arange(channels).chunk(heads):
        weights = torch.einsum("bci,bcj->bij", query[:, head], key[:, head]) / math.sqrt(len(head))
        parts.append(torch.einsum("bij,bcj->bci", weights.softmax(dim=2), value[:, head]))
    expected = (x + attention.out(torch.cat(parts, dim=1).view_as(x))) / math.sqrt(2)
    torch.testing.assert_close(attention(x), expected, rtol=1e-4, atol=1e-5)


def test_blocks_begin_as_their_shortcuts() -> None:
    x = torch.randn(2, 8, 4, 4, generator=generator())
    block, attention = UNetBlock(8, 8, EMBEDDING, down=False, kernel_size=3), SelfAttention(8)
    torch.testing.assert_close(block(x, torch.ones(1, EMBEDDING)), x / math.sqrt(2))
    torch.testing.assert_close(attention(x), x / math.sqrt(2))


def test_the_embedding_tells_close_levels_apart_and_far_ones_more() -> None:
    """Sinusoids of frequency 1 see the whole range of c_noise, sigma 1e-3 to 100, without repeating."""
    embedding, c_noise = NoiseEmbedding(16), (2 * SIGMAS).log() / 4
    seen: list[Tensor] = []
    embedding.layers.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    embedding(c_noise)
    assert c_noise.max() - c_noise.min() < math.pi
    torch.testing.assert_close(seen[0][:, 0], c_noise.cos())
    torch.testing.assert_close(seen[0][:, 15], (16 * c_noise).sin())


def test_it_learns_the_score_of_a_mixture() -> None:
    """Two modes apart, pixels in [0, 1]: the error against the exact score falls far below where it began."""
    means = torch.stack([torch.full((1, 8, 8), 0.2), torch.full((1, 8, 8), 0.8)])
    means[1, :, :4] = 0.4
    mixture = GaussianMixture([0.3, 0.7], means, 0.1)
    network, draws = fresh(width=64), generator(5)

    def weighted(score: Tensor, exact: Tensor, sigma: Tensor) -> Tensor:
        return ((score - exact) * sigma.view(-1, 1, 1, 1)).square().mean()

    def error() -> float:
        draws, sigma = generator(6), torch.tensor([0.1, 0.3, 1.0]).repeat_interleave(64)
        x = mixture.sample(192, draws)
        x = x + sigma.view(-1, 1, 1, 1) * torch.randn(x.shape, generator=draws)
        with torch.no_grad():
            return weighted(network(x, sigma), mixture.score(x, sigma), sigma).item()

    before, adam = error(), torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(150):
        sigma = (torch.randn(32, generator=draws) - 1).exp()
        noise = torch.randn(32, 1, 8, 8, generator=draws)
        x = mixture.sample(32, draws) + sigma.view(-1, 1, 1, 1) * noise
        adam.zero_grad()
        weighted(network(x, sigma), -noise / sigma.view(-1, 1, 1, 1), sigma).backward()
        adam.step()
    assert error() < before / 10


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"image_size": 128}, "presets up to 64 pixels"),
        ({"image_size": 30}, "divisible by 4"),
        ({"multiples": [1, 2], "blocks": [1]}, "as many of one as of the other"),
        ({"blocks": [0]}, "must be at least 1"),
        ({"patch": 16}, "divisible by 16"),
        ({"multiples": [], "blocks": []}, "each at least 1"),
        ({"channels": 0}, "channels is 0"),
        ({"width": 1}, "width is 1"),
    ],
)
def test_an_impossible_layout_is_refused(changes: dict[str, object], named: str) -> None:
    settings = {"kind": "unet", "channels": 1, "image_size": 8, "width": 8} | changes
    with pytest.raises(UserError, match=named):
        make_network(**settings)
