"""Learning rate schedules: a factor for each step. Each kind is a file of this package.

A schedule depends on the step alone, or on the step and the number of steps, so that resuming needs no state.
"""

from typing import ClassVar, Protocol

from pipeline.ncsn.errors import UserError


class Schedule(Protocol):
    """Settings of a schedule: `schedule` in params.yaml."""

    needs_steps: ClassVar[bool]
    """Whether the factor depends on the number of steps: then no run is the beginning of a longer one."""

    def factor(self, step: int, steps: int) -> float:
        """What the learning rate is multiplied by.

        Args:
            step: the number of steps done before, from 0.
            steps: how many the whole training has.
        """


def check_warmup(steps: int, fewest: int) -> None:
    """Raise UserError unless a warm-up has at least `fewest` steps."""
    if steps < fewest:
        raise UserError(f"warmup_steps is {steps}: it must be at least {fewest}.")


def warmed(step: int, warmup_steps: int) -> float:
    """A linear warm-up: 1/N in the first of N steps, 1 from the N-th on."""
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
