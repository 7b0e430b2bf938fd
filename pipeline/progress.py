"""Progress of a stage's loops: a line every few seconds, none of a loop that is over before."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
EVERY_S = 5.0
"""Seconds between two lines, and before the first."""

logger = logging.getLogger(__name__)


def reported(what: str, items: Iterable[T], total: int) -> Iterator[T]:
    """The items as they come, each logged as done by `what`, with the seconds left at the speed so far.

    An item counts as done when the next is asked for. So wrap what makes the items, or what they are made from.
    """
    begin = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - last >= EVERY_S:
            last = now
            left = (now - begin) / done * (total - done)
            logger.info("%s: %d of %d, about %.0f s left", what, done, total, left)
        yield item
