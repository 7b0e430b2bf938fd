"""Linear warm-up to a constant learning rate, as EDM has it (arXiv 2206.00364)."""

from dataclasses import dataclass
from typing import ClassVar

from pipeline.training.schedules import check_warmup, warmed


@dataclass(frozen=True)
class Warmup:
    """The learning rate grows linearly over the first steps, then stays."""

    warmup_steps: int
    """How many steps until the full rate."""
    needs_steps: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_warmup(self.warmup_steps, fewest=1)

    def factor(self, step: int, steps: int) -> float:
        """min(1, (step + 1) / warmup_steps); see `Schedule.factor`."""
        return warmed(step, self.warmup_steps)
