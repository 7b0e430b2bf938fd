"""Where numbers go while a run is under way; what they go to is none of training's business."""

from collections.abc import Mapping
from typing import Protocol


class Tracker(Protocol):
    """Receives metrics. It must neither raise nor block: a run is worth more than its log."""

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record values reached at an optimiser step."""


class NullTracker:
    """The tracker of a run that nobody watches."""

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Forget the values."""
