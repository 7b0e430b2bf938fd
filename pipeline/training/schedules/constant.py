"""Constant learning rate, that of NCSN and NCSNv2."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Constant:
    """The optimiser's learning rate at every step."""

    needs_steps: ClassVar[bool] = False

    def factor(self, step: int, steps: int) -> float:
        """1; see `Schedule.factor`."""
        return 1.0
