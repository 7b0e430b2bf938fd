"""InstanceNorm++ with ELU as one operation, and one look-up for all tables, against their plain forms."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.ncsn.networks import make_network
from pipeline.ncsn.networks._instance_norm import elu_, norm_elu, normalize
from pipeline.ncsn.networks._normalization import ConditionalInstanceNorm2dPlus, gather

LAYOUTS = (torch.contiguous_format, torch.channels_last)


def case(shape: tuple[int, int, int, int], rows: tuple[int, ...], layout: torch.memory_format) -> list[Tensor]:
    """x, gamma, alpha and beta of some shape, and a gradient of the result, in float64."""
    rng = torch.Generator().manual_seed(0)
    x, slope = (torch.randn(shape, generator=rng, dtype=torch.float64) for _ in range(2))
    own = [torch.randn(*rows, shape[1], generator=rng, dtype=torch.float64) for _ in range(3)]
    return [x.contiguous(memory_format=layout).requires_grad_(), *(p.requires_grad_() for p in own), slope]


@pytest.mark.parametrize(
    ("shape", "rows", "layout"),
    list(product([(3, 4, 5, 2), (2, 2, 1, 1), (1, 7, 8, 8)], [(), (1,)], LAYOUTS))
    + [((3, 4, 5, 2), (3,), layout) for layout in LAYOUTS],
)
def test_value_and_gradients_are_those_of_the_formula(
    shape: tuple[int, int, int, int], rows: tuple[int, ...], layout: torch.memory_format
) -> None:
    *given, slope = case(shape, rows, layout)
    plain, fused = F.elu(normalize(*given)), norm_elu(*given)
    torch.testing.assert_close(fused, plain, rtol=1e-12, atol=1e-12)
    wanted = torch.autograd.grad(plain, given, slope)
    for found, known in zip(torch.autograd.grad(fused, given, slope), wanted, strict=True):
        torch.testing.assert_close(found, known, rtol=1e-10, atol=1e-10)


def test_gradients_are_those_of_finite_differences() -> None:
    *given, _ = case((2, 3, 4, 5), (2,), torch.contiguous_format)
    assert torch.autograd.gradcheck(norm_elu, given)


def test_second_derivatives_are_right_also_where_the_incoming_gradient_is_constant() -> None:
    """There torch's `once_differentiable` would leave them out without a word."""
    *given, slope = case((2, 3, 4, 5), (2,), torch.contiguous_format)
    assert torch.autograd.gradgradcheck(norm_elu, given)
    (first,) = torch.autograd.grad(norm_elu(*given), given[0], slope, create_graph=True)
    (plain,) = torch.autograd.grad(F.elu(normalize(*given)), given[0], slope, create_graph=True)
    for found, known in zip(*(torch.autograd.grad(g.square().sum(), given) for g in (first, plain)), strict=True):
        torch.testing.assert_close(found, known, rtol=1e-9, atol=1e-9)


def test_elu_is_torchs_where_it_is_flat_and_where_it_grows() -> None:
    x = torch.tensor([-1e4, -20.0, -1e-3, -1e-8, 0.0, 1e-8, 2.0, 1e4, torch.inf, -torch.inf])
    torch.testing.assert_close(elu_(x.clone()), F.elu(x), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", ["ncsn", "ncsnv2"])
def test_a_network_scores_the_same_with_a_gradient_and_without(kind: str) -> None:
    torch.manual_seed(0)
    network = make_network(kind=kind, width=4, channels=1, image_size=8, sigmas=(1.0, 0.5, 0.1))
    x, sigma = torch.rand(3, 1, 8, 8), torch.tensor([1.0, 0.1, 0.5])
    with torch.no_grad():
        plain = network(x, sigma)
    torch.testing.assert_close(network(x, sigma), plain, rtol=1e-4, atol=1e-5)


def test_one_look_up_has_the_rows_of_every_table() -> None:
    network = make_network(kind="ncsn", width=4, channels=1, image_size=8, sigmas=(1.0, 0.5, 0.1))
    level = torch.tensor([2, 0])
    rows = gather(network, level)
    norms = [module for module in network.modules() if isinstance(module, ConditionalInstanceNorm2dPlus)]
    assert list(rows) == norms
    for norm in norms:
        torch.testing.assert_close(rows[norm], norm.embed(level), rtol=0, atol=0)
