"""No sampler starts on a ladder that does not descend to above 0."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.inpainting import inpainting_levels
from pipeline.ncsn.kinds import kinds, make
from pipeline.ncsn.ladder import check_ladder
from pipeline.ncsn.rng import SampleNoise
from pipeline.ncsn.sampler import last

OPTIONS: dict[str, dict[str, Any]] = {
    "langevin": {"step_size": 1e-3, "steps_per_level": 2},
    "consistent": {"num_levels": 2, "step_size": 2e-3},
    "predictor_corrector": {"num_levels": 2, "predictor": "ancestral", "corrector_steps": 1, "snr": 0.2},
    "stochastic_heun": {"num_levels": 2, "churn": 1.0},
    "inpainting": {
        "step_size": 1e-3,
        "steps_per_level": 2,
        "form": "v1",
        "known": torch.zeros(()),
        "mask": torch.zeros(()),
    },
}
SAMPLERS = (*kinds("samplers"), "inpainting")
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
    rng, options = SampleNoise(0, range(2), (3,)), OPTIONS.get(name, {"num_levels": 2})
    inpaint = name == "inpainting"
    made = None if inpaint else make("samplers", {"kind": name, **options})
    levels = made.levels if made else partial(inpainting_levels, **options)
    for start in (None, torch.zeros(2, 3)):
        with pytest.raises(UserError, match=r"sigmas is .* must descend strictly and stay above 0"):
            next(levels(unasked, torch.tensor(REFUSED[case]), rng, start=start))


def test_one_level_and_an_irregular_ladder_are_ladders() -> None:
    check_ladder(torch.tensor([0.1]))
    check_ladder(torch.tensor([3.0, 2.9, 0.1]))


def test_the_last_of_the_levels_is_the_last() -> None:
    assert last(iter(torch.arange(3))) == 2
