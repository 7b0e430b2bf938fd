"""Figure 1's network: the paper's blocks and filters, and a score that sliced score matching can train."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.ncsn.errors import UserError
from pipeline.toy.fig1 import AutoEncoder, EluBlock
from pipeline.toy.score_matching import sliced_score_matching

PUBLISHED = [32, 64, 64, 128, 128]


def seeded(channels: int = 1, image_size: int = 8, width: int = 4) -> AutoEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoEncoder(channels=channels, image_size=image_size, width=width)


def images(n: int, *, channels: int = 1, size: int = 8) -> Tensor:
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(1))


def noted(network: AutoEncoder, x: Tensor) -> list[tuple[nn.Module, Tensor, Tensor]]:
    """Each module that ran, with what it was given and what it gave."""
    ran: list[tuple[nn.Module, Tensor, Tensor]] = []
    parts = (network.first, *network.down, *network.up, network.last)
    hooks = [part.register_forward_hook(lambda m, args, out: ran.append((m, args[0], out))) for part in parts]
    network(x, torch.ones(()))
    for hook in hooks:
        hook.remove()
    return ran


@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 28), (1, 8)])
def test_five_blocks_down_and_five_up_have_the_published_filters(channels: int, size: int) -> None:
    ran = noted(seeded(channels, size, 32), images(2, channels=channels, size=size))
    blocks = [out for module, _, out in ran if isinstance(module, EluBlock)]
    assert [out.shape[1] for out in blocks] == PUBLISHED + PUBLISHED[::-1]
    sides = [size, size // 2, size // 2, size // 4, size // 4]
    assert [out.shape[-1] for out in blocks] == sides + sides[::-1]


def test_pixels_of_0_to_1_enter_as_minus_1_to_1_and_a_score_of_their_shape_leaves() -> None:
    x = images(3, channels=2)
    (_, entered, _), *_, (_, _, left) = noted(seeded(2), x)
    torch.testing.assert_close(entered, 2 * x - 1)
    assert left.shape == x.shape


def test_it_ignores_sigma() -> None:
    network, x = seeded(), images(3)
    assert torch.equal(network(x, torch.ones(())), network(x, torch.tensor([0.0, 1.0, 50.0])))


@pytest.mark.parametrize(("channels_in", "channels_out"), [(3, 3), (3, 6)])
def test_a_block_is_two_convolutions_after_elus_beside_a_shortcut(channels_in: int, channels_out: int) -> None:
    torch.manual_seed(0)
    block, x = EluBlock(channels_in, channels_out), torch.randn(2, channels_in, 5, 5)

    def elu(x: Tensor) -> Tensor:
        return torch.where(x > 0, x, x.exp() - 1)

    h = F.conv2d(elu(x), block.conv1.weight, block.conv1.bias, padding=1)
    h = F.conv2d(elu(h), block.conv2.weight, block.conv2.bias, padding=1)
    torch.testing.assert_close(block(x) - block.shortcut(x), h)
    assert isinstance(block.shortcut, nn.Identity) == (channels_in == channels_out)


def test_sliced_score_matching_sees_its_jacobian_and_reaches_every_weight() -> None:
    """v^T J v + |s|^2 / 2, with the Jacobian J of the score built row by row."""
    network, x = seeded().double(), images(2).double()
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    loss = sliced_score_matching(network, x, torch.ones(()), v, variance_reduced=True)
    for k in range(2):
        jacobian = torch.func.jacrev(lambda y: network(y[None], torch.ones(()))[0])(x[k]).reshape(64, 64)
        norm = network(x[k][None], torch.ones(())).square().sum()
        torch.testing.assert_close(loss[k], v[k].flatten() @ jacobian @ v[k].flatten() + norm / 2)
    loss.mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name


def test_an_image_that_cannot_be_halved_twice_is_refused() -> None:
    with pytest.raises(UserError, match="image_size is 30"):
        AutoEncoder(channels=1, image_size=30, width=4)
