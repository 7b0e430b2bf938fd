"""Cosine decay of the learning rate to the end of the training, after a linear warm-up.

I. Loshchilov, F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", arXiv 1608.03983, equation
5, without restarts.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from pipeline.ncsn.errors import UserError
from pipeline.training.schedules import check_warmup, warmed


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from the full rate to a fraction of it.

    It depends on the number of steps, so a shorter training is not the beginning of a longer one, which starts at step 0.
    """

    warmup_steps: int
    """How many steps until the full rate; 0: the first has it."""
    final: float
    """The fraction of the rate that the last step comes near to, from 0 to 1."""
    needs_steps: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_warmup(self.warmup_steps, fewest=0)
        if not 0 <= self.final <= 1:
            raise UserError(f"final is {self.final}: it must be from 0 to 1.")

    def factor(self, step: int, steps: int) -> float:
        """The warm-up's factor, then final + (1 - final) (1 + cos(pi t)) / 2 with t from 0 to 1."""
        if step < self.warmup_steps:
            return warmed(step, self.warmup_steps)
        t = (step - self.warmup_steps) / max(1, steps - self.warmup_steps)
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * t)) / 2
