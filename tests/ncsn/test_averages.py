"""Moving averages follow their laws, and nothing else."""

import pytest
import torch
from torch import Tensor, nn

from pipeline.ncsn.averages import Average, AveragedWeights
from pipeline.ncsn.averages.exponential import Exponential
from pipeline.ncsn.averages.none import NoAverage
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.kinds import find, kinds


def network(value: float) -> nn.Module:
    module = nn.Linear(3, 2)
    nn.init.constant_(module.weight, value)
    nn.init.constant_(module.bias, -value)
    module.register_buffer("ladder", torch.full((4,), value))
    return module


def set_to(module: nn.Module, value: float) -> None:
    module.load_state_dict(network(value).state_dict())


def weight(average: AveragedWeights) -> Tensor:
    return average.state_dict()["weight"]


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5, 0.9, 0.999])
def test_after_n_updates_it_is_the_geometric_sum(rate: float) -> None:
    module, values = network(1.0), [2.0, -3.0, 5.0, 7.0]
    average = AveragedWeights(module, Exponential(rate))
    for value in values:
        set_to(module, value)
        average.update(module, 1)
    expected = rate**4 + sum((1 - rate) * rate ** (3 - k) * value for k, value in enumerate(values))
    torch.testing.assert_close(weight(average), torch.full((2, 3), expected))
    torch.testing.assert_close(average.state_dict()["bias"], torch.full((2,), -expected))


@pytest.mark.parametrize("rule", [NoAverage(), Exponential(0.0)])
def test_without_average_it_is_the_weights_bit_for_bit(rule: Average) -> None:
    module = network(0.0)
    average = AveragedWeights(module, rule)
    nn.init.normal_(module.weight)
    average.update(module, 1)
    assert torch.equal(weight(average), module.weight)


def test_buffers_are_copied() -> None:
    module = network(1.0)
    average = AveragedWeights(module, Exponential(0.9))
    set_to(module, 2.0)
    average.update(module, 1)
    assert torch.equal(average.state_dict()["ladder"], torch.full((4,), 2.0))


def test_it_shares_no_memory_with_the_network() -> None:
    module = network(1.0)
    average = AveragedWeights(module, Exponential(0.9))
    set_to(module, 5.0)
    assert torch.equal(weight(average), torch.full((2, 3), 1.0))
    average.copy_to(module)
    assert torch.equal(module.weight, torch.full((2, 3), 1.0))
    nn.init.zeros_(module.weight)
    assert torch.equal(weight(average), torch.full((2, 3), 1.0))


def test_a_restored_average_continues_as_the_old_one() -> None:
    module = network(1.0)
    old, new = AveragedWeights(module, Exponential(0.9)), AveragedWeights(network(0.0), Exponential(0.9))
    set_to(module, 3.0)
    old.update(module, 1)
    new.load_state_dict({name: value.clone() for name, value in old.state_dict().items()})
    for average in (old, new):
        average.update(module, 1)
    assert all(torch.equal(value, new.state_dict()[name]) for name, value in old.state_dict().items())


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_bad_rate_is_refused(rate: float) -> None:
    with pytest.raises(UserError, match=r"^rate is"):
        Exponential(rate)


def test_each_kind_is_found_by_its_name() -> None:
    assert [find("averages", kind) for kind in kinds("averages")] == [Exponential, NoAverage]


def test_a_shortened_average_spans_the_same_fraction_and_is_never_longer() -> None:
    assert Exponential(0.999).shortened(1000, 100).rate == pytest.approx(0.99)
    assert Exponential(0.9).shortened(1000, 10).rate == 0.0
    assert Exponential(0.9).shortened(10, 1000) == Exponential(0.9)
    assert NoAverage().shortened(1000, 100) == NoAverage()


def test_another_networks_average_is_refused() -> None:
    with pytest.raises(UserError, match="another network"):
        AveragedWeights(network(1.0), Exponential(0.9)).load_state_dict(nn.Linear(4, 2).state_dict())
