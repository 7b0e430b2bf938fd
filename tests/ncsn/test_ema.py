"""The moving average follows its law, and nothing else."""

import pytest
import torch
from torch import Tensor, nn

from pipeline.ncsn.ema import ExponentialMovingAverage
from pipeline.ncsn.errors import UserError


def network(value: float) -> nn.Module:
    module = nn.Linear(3, 2)
    nn.init.constant_(module.weight, value)
    nn.init.constant_(module.bias, -value)
    module.register_buffer("ladder", torch.full((4,), value))
    return module


def set_to(module: nn.Module, value: float) -> None:
    module.load_state_dict(network(value).state_dict())


def weight(average: ExponentialMovingAverage) -> Tensor:
    return average.state_dict()["weight"]


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5, 0.9, 0.999])
def test_after_n_updates_it_is_the_geometric_sum(rate: float) -> None:
    module, values = network(1.0), [2.0, -3.0, 5.0, 7.0]
    average = ExponentialMovingAverage(module, rate)
    for value in values:
        set_to(module, value)
        average.update(module)
    expected = rate**4 + sum((1 - rate) * rate ** (3 - k) * value for k, value in enumerate(values))
    torch.testing.assert_close(weight(average), torch.full((2, 3), expected))
    torch.testing.assert_close(average.state_dict()["bias"], torch.full((2,), -expected))


def test_rate_zero_is_the_weights_bit_for_bit() -> None:
    module = network(0.0)
    average = ExponentialMovingAverage(module, 0.0)
    nn.init.normal_(module.weight)
    average.update(module)
    assert torch.equal(weight(average), module.weight)


def test_buffers_are_copied() -> None:
    module = network(1.0)
    average = ExponentialMovingAverage(module, 0.9)
    set_to(module, 2.0)
    average.update(module)
    assert torch.equal(average.state_dict()["ladder"], torch.full((4,), 2.0))


def test_it_shares_no_memory_with_the_network() -> None:
    module = network(1.0)
    average = ExponentialMovingAverage(module, 0.9)
    set_to(module, 5.0)
    assert torch.equal(weight(average), torch.full((2, 3), 1.0))
    average.copy_to(module)
    assert torch.equal(module.weight, torch.full((2, 3), 1.0))
    nn.init.zeros_(module.weight)
    assert torch.equal(weight(average), torch.full((2, 3), 1.0))


def test_a_restored_average_goes_on_as_the_old_one() -> None:
    module = network(1.0)
    old, new = ExponentialMovingAverage(module, 0.9), ExponentialMovingAverage(network(0.0), 0.9)
    set_to(module, 3.0)
    old.update(module)
    new.load_state_dict({name: value.clone() for name, value in old.state_dict().items()})
    for average in (old, new):
        average.update(module)
    assert all(torch.equal(value, new.state_dict()[name]) for name, value in old.state_dict().items())


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_bad_rate_is_refused(rate: float) -> None:
    with pytest.raises(UserError, match="ema_rate is"):
        ExponentialMovingAverage(network(1.0), rate)


def test_another_networks_average_is_refused() -> None:
    with pytest.raises(UserError, match="another network"):
        ExponentialMovingAverage(network(1.0), 0.9).load_state_dict(nn.Linear(4, 2).state_dict())
