"""No sampler starts on a ladder that does not descend to above 0."""

from typing import Any

import pytest
import torch
from pipeline.ncsn.samplers.settings import KINDS
from pipeline.ncsn.samplers.sigmas import check_ladder, last
from torch import Tensor

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.inpainting import inpainting_levels
from pipeline.ncsn.rng import SampleNoise

OPTIONS: dict[str, dict[str, Any]] = {
    "langevin": {"step_lr": 1e-3, "steps_per_level": 2},
    "consistent": {"step_lr": 2e-3},
    "predictor_corrector": {"predictor": "ancestral", "corrector_steps": 1, "snr": 0.2},
    "inpainting": {
        "step_lr": 1e-3,
        "steps_per_level": 2,
        "form": "v1",
        "known": torch.zeros(()),
        "mask": torch.zeros(()),
    },
}
SAMPLERS = {**KINDS, "inpainting": inpainting_levels}
REFUSED = {
    "empty": [],
    "ascending": [0.1, 1.0],
    "level": [1.0, 1.0],
    "to 0": [1.0, 0.1, 0.0],
    "below 0": [1.0, -0.1],
    "not a number": [1.0, float("nan")],
}


def unasked(x: Tensor, sigma: Tensor) -> Tensor:
    raise AssertionError("the score was asked")


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("case", REFUSED)
def test_every_sampler_refuses_a_bad_ladder_before_it_begins(name: str, case: str) -> None:
    rng, options = SampleNoise(0, range(2), (3,)), OPTIONS.get(name, {})
    for start in (None, torch.zeros(2, 3)):
        with pytest.raises(UserError, match=r"sigmas is .* must descend strictly and stay above 0"):
            next(SAMPLERS[name](unasked, torch.tensor(REFUSED[case]), rng, start=start, **options))


def test_one_level_and_an_irregular_ladder_are_ladders() -> None:
    check_ladder(torch.tensor([0.1]))
    check_ladder(torch.tensor([3.0, 2.9, 0.1]))


def test_the_last_of_the_levels_is_the_last() -> None:
    assert last(iter(torch.arange(3))) == 2
