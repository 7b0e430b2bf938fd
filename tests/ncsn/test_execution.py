"""A network in mixed precision and compiled: the same function within stated tolerances."""

import pytest
import torch

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.execution import evaluated
from pipeline.ncsn.networks import make_network

SIGMAS = (1.0, 0.3, 0.1, 0.01)


def network(kind: str = "ncsnv2") -> torch.nn.Module:
    torch.manual_seed(0)
    return make_network(kind, channels=1, image_size=8, width=16, sigmas=SIGMAS)


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(4, 1, 8, 8, generator=generator), torch.tensor(SIGMAS)


def test_in_float32_it_is_the_network_itself() -> None:
    made = network()
    assert torch.equal(evaluated(made, precision="float32", compile=False)(*inputs()), made(*inputs()))


@pytest.mark.parametrize("kind", ["ncsn", "ncsnv2"])
def test_bfloat16_computes_in_bfloat16_and_returns_float32(kind: str) -> None:
    made, seen = network(kind), []
    made.get_submodule("begin_conv").register_forward_hook(lambda *call: seen.append(call[-1].dtype))
    full, mixed = made(*inputs()), evaluated(made, precision="bfloat16", compile=False)(*inputs())
    assert seen == [torch.float32, torch.bfloat16]
    assert mixed.dtype == torch.float32
    error = (mixed - full).flatten(1).norm(dim=1) / full.flatten(1).norm(dim=1)
    assert 0 < error.max() < 0.03


def test_a_misspelt_precision_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="precision is 'bf16': it must be one of float32, bfloat16"):
        evaluated(network(), precision="bf16", compile=False)
