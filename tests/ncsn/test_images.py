"""Pixels are clamped and rounded, never truncated; broken samples are refused."""

import math

import pytest
import torch

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.images import to_uint8


def test_every_byte_survives_the_round_trip() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(levels.float() / 255), levels)


def test_values_go_to_the_nearest_byte() -> None:
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert (to_uint8(x).float() / 255 - x).abs().max() <= 0.5 / 255 + 1e-6


def test_values_outside_are_clamped() -> None:
    assert to_uint8(torch.tensor([-3.0, -0.001, 1.001, 50.0])).tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_diverged_sample_is_refused(broken: float) -> None:
    with pytest.raises(UserError, match="diverged"):
        to_uint8(torch.tensor([0.5, broken]))
