"""Networks: the published parameter counts, the layers' formulas, and the contract of a score model."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.kinds import make
from pipeline.ncsn.networks import make_network
from pipeline.ncsn.networks._blocks import ConvMeanPool
from pipeline.ncsn.networks._normalization import ConditionalInstanceNorm2dPlus, InstanceNorm2dPlus
from pipeline.ncsn.noise import geometric_sigmas

KINDS = ["ncsn", "ncsnv2", "unet"]
SIGMAS = tuple(geometric_sigmas(1.0, 0.01, 10).tolist())


def seeded(kind: str, **sizes: int) -> nn.Module:
    """A network whose weights are a function of the seed, with random ones where it begins at zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make_network(kind, **{"channels": 1, "image_size": 8, "width": 8} | sizes, sigmas=SIGMAS)
        for parameter in network.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.1)
    return network


def images(n: int, *, channels: int = 1, size: int = 8) -> Tensor:
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("kind", "channels", "image_size", "width", "published"),
    [
        ("ncsn", 3, 32, 128, 30_117_635),
        ("ncsn", 1, 28, 64, 7_638_657),
        ("ncsnv2", 3, 32, 128, 29_694_083),
        ("ncsnv2", 3, 64, 128, 29_694_083),
        ("ncsnv2", 3, 96, 128, 83_445_379),
        ("ncsnv2", 3, 128, 128, 83_445_379),
        ("ncsnv2", 3, 256, 128, 94_132_611),
    ],
)
def test_the_published_networks_have_their_number_of_parameters(
    kind: str, channels: int, image_size: int, width: int, published: int
) -> None:
    with torch.device("meta"):
        network = make_network(kind, channels=channels, image_size=image_size, width=width, sigmas=SIGMAS)
    assert sum(parameter.numel() for parameter in network.parameters()) == published


@pytest.mark.parametrize(
    ("kind", "size"),
    [*((k, s) for k in ("ncsn", "ncsnv2") for s in (8, 16, 28, 32, 96)), ("unet", 8), ("unet", 28)],
)
def test_a_score_has_the_shape_of_its_image_and_every_weight_a_gradient(kind: str, size: int) -> None:
    network = seeded(kind, channels=2, image_size=size, width=4)
    score = network(images(2, channels=2, size=size), torch.tensor(SIGMAS[2:4]))
    assert score.shape == (2, 2, size, size)
    score.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


def refusal(attempt: Callable[[], object]) -> str | None:
    try:
        with torch.device("meta"):
            attempt()
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize("kind", KINDS)
def test_a_size_is_refused_before_building_as_it_is_in_building(kind: str) -> None:
    settings = make("networks", {"kind": kind, "width": 4})
    sizes = (1, 7, 8, 10, 27, 28, 30, 32, 65, 66)
    early = {size: refusal(partial(settings.check_size, size)) for size in sizes}
    assert early == {size: refusal(partial(settings.build, 1, size, SIGMAS)) for size in sizes}
    assert early[27] and not early[32]


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (
            "ncsn",
            [
                "res2.0.conv2.conv.weight",
                "res4.1.normalize2.embed.weight",
                "refine3.msf.norms.1.embed.weight",
            ],
        ),
        ("ncsn", ["refine4.output_convs.3_2_conv.weight", "refine1.adapt_convs.0.2_1_norm.embed.weight"]),
        (
            "ncsnv2",
            ["normalizer.alpha", "refine1.crp.convs.1.weight", "refine2.adapt_convs.1.1_2_conv.weight"],
        ),
        ("ncsnv2", ["sigmas", "begin_conv.bias", "res3.0.shortcut.weight", "res2.0.shortcut.conv.bias"]),
    ],
)
def test_names_are_those_of_the_released_networks(kind: str, names: list[str]) -> None:
    assert not set(names) - set(seeded(kind, image_size=32).state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_a_function_of_the_global_seed(kind: str) -> None:
    first, second = seeded(kind).state_dict(), seeded(kind).state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("kind", KINDS)
def test_one_sigma_for_all_is_that_sigma_for_each(kind: str) -> None:
    network, x = seeded(kind), images(3)
    torch.testing.assert_close(
        network(x, torch.tensor(SIGMAS[4])),
        network(x, torch.tensor(SIGMAS[4]).expand(3)),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_does_not_see_its_batch(kind: str) -> None:
    network, x, sigma = seeded(kind), images(4), torch.tensor(SIGMAS[3:7])
    together = network(x, sigma)
    alone = torch.cat([network(x[k : k + 1], sigma[k : k + 1]) for k in range(4)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_the_conditional_network_knows_each_of_its_levels() -> None:
    network = seeded("ncsn")
    for ladder in (network.sigmas, torch.tensor(SIGMAS, dtype=torch.float64)):
        assert network.level(ladder).tolist() == list(range(10))
    scores = [network(images(1), sigma) for sigma in network.sigmas]
    assert not torch.allclose(scores[0], scores[1])


@pytest.mark.parametrize("unknown", [0.5, 2.0, SIGMAS[3] * 1.0001, math.nan, 0.0])
def test_the_conditional_network_refuses_an_unknown_sigma(unknown: float) -> None:
    network = seeded("ncsn")
    with pytest.raises(UserError, match="not one of the 10 levels"):
        network(images(2), torch.tensor([SIGMAS[0], unknown]))


def test_the_unconditional_network_is_divided_by_sigma() -> None:
    network, x, sigma = seeded("ncsnv2"), images(3), torch.tensor([0.02, 0.5, 7.0])
    torch.testing.assert_close(network(x, sigma) * sigma.view(-1, 1, 1, 1), network(x, torch.ones(())))


@pytest.mark.parametrize(("kind", "graphs"), [("ncsn", 2), ("ncsnv2", 1), ("unet", 1)])
def test_a_network_compiles(kind: str, graphs: int) -> None:
    """Into one graph, or for the conditional network two: the search for the level is one of its own, since
    it may refuse. The backend runs the graphs as they are: a real one needs a C++ compiler."""
    network, x, sigma, made = seeded(kind, width=4), images(3), torch.tensor(SIGMAS[2:5]), []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., object]:
        made.append(graph)
        return graph.forward

    torch.compiler.reset()
    compiled = torch.compile(network, backend=backend, fullgraph=graphs == 1)
    torch.testing.assert_close(compiled(x, sigma), network(x, sigma))
    assert len(made) == graphs
    if kind == "ncsn":
        with pytest.raises(UserError, match="not one of the 10 levels"):
            compiled(x, 2 * sigma)


def test_the_image_networks_centre_their_input() -> None:
    """Images in [0, 1] reach the first convolution in [-1, 1]."""
    network, seen = seeded("ncsnv2"), []
    network.begin_conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1).expand(3, 1, 8, 8), torch.ones(()))
    torch.testing.assert_close(seen[0][:, 0, 0, 0], torch.tensor([-1.0, 0.0, 1.0]))


def instance_norm_plus(x: Tensor, gamma: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """The formula as it is written, by torch's own instance norm; gamma, alpha, beta (B, C)."""
    mean = x.mean((2, 3))
    spread = torch.sqrt(mean.var(dim=1, keepdim=True) + 1e-5)
    contrast = (mean - mean.mean(dim=1, keepdim=True)) / spread
    h = F.instance_norm(x) + (alpha * contrast)[..., None, None]
    return gamma[..., None, None] * h + beta[..., None, None]


def test_instance_norm_plus_is_its_formula() -> None:
    x = torch.randn(3, 6, 5, 4, generator=torch.Generator().manual_seed(0)) * 2 + 1
    plain = InstanceNorm2dPlus(6)
    nn.init.normal_(plain.beta)
    expected = instance_norm_plus(x, *(p.expand(3, 6) for p in (plain.gamma, plain.alpha, plain.beta)))
    torch.testing.assert_close(plain(x, None), expected)
    conditional, level = ConditionalInstanceNorm2dPlus(6, 4), torch.tensor([3, 0, 2])
    nn.init.normal_(conditional.embed.weight)
    expected = instance_norm_plus(x, *conditional.embed.weight[level].chunk(3, dim=1))
    torch.testing.assert_close(conditional(x, level), expected)


def test_instance_norm_plus_starts_near_one_one_zero() -> None:
    weight = ConditionalInstanceNorm2dPlus(500, 20).embed.weight.detach()
    assert weight[:, :1000].mean().item() == pytest.approx(1, abs=1e-3)
    assert weight[:, :1000].std().item() == pytest.approx(0.02, rel=0.05)
    assert not weight[:, 1000:].any()


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_pooled_convolution_is_a_convolution_then_a_mean(kernel_size: int) -> None:
    layer = ConvMeanPool(4, 6, kernel_size)
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x), F.avg_pool2d(layer.conv(x), 2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "changes", "named"),
    [
        ("vae", {}, "'vae' is none of the networks"),
        ("ncsn", {"sigmas": None}, "give `sigmas`"),
        ("ncsnv2", {"attention": (4,)}, "not those of ncsnv2.*attention"),
        ("ncsnv2", {"image_size": 9}, "image_size is 9"),
        ("ncsnv2", {"image_size": 4}, "image_size is 4"),
        ("ncsnv2", {"width": 1}, "width is 1"),
        ("ncsnv2", {"channels": 0}, "channels is 0"),
    ],
)
def test_an_impossible_network_is_refused(kind: str, changes: dict[str, int | None], named: str) -> None:
    sizes = {"channels": 1, "image_size": 8, "width": 8, "sigmas": SIGMAS} | changes
    with pytest.raises(UserError, match=named):
        make_network(kind, **sizes)
