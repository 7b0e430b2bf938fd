"""Delivers the records of a repository: alone, in the order in which they were begun."""

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.ncsn.errors import UserError
from pipeline.tracking import process
from pipeline.tracking.delivery import Delivery
from pipeline.tracking.errors import UnreachableError
from pipeline.tracking.journal import Journal, journals, waiting
from pipeline.tracking.store.opening import Store

POLL_S = 0.05
PAUSE_S = 2.0
"""How long what failed is left alone."""
GRACE_S = 5.0
"""How long what fails is tried after the pipeline's end."""
OWNERS_S = 0.5
"""How often it is asked whether the pipeline has ended."""


class Shipper:
    """The records of a repository, and the stores that they go to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._deliveries: dict[Path, Delivery] = {}
        self._stores: dict[tuple[str, str], Store] = {}
        self._paused: dict[str, tuple[float, str]] = {}
        """Until when a store, by its uri, or a record, by its path, is left alone, and why."""
        self._owners: set[str] = set()

    def once(self) -> bool:
        """Deliver what can be; returns whether anything was. What is through and ended is deleted."""
        there = {journal.path: journal for journal in journals(self.root) if journal.size()}
        for path in self._deliveries.keys() - there.keys():
            del self._deliveries[path]
        advanced = [self._advance(journal) for journal in there.values()]
        return any(advanced)

    def _advance(self, journal: Journal) -> bool:
        if journal.path not in self._deliveries:
            self._deliveries[journal.path] = Delivery(journal, self._opened)
        delivery = self._deliveries[journal.path]
        keys = {UnreachableError: delivery.uri, UserError: str(journal.path)}
        for until, why in filter(None, map(self._paused.get, keys.values())):
            if time.monotonic() < until:
                delivery.waits(why)
                return False
        try:
            done = delivery.advance()
        except UserError as error:
            key = keys[UnreachableError if isinstance(error, UnreachableError) else UserError]
            self._paused[key] = (time.monotonic() + PAUSE_S, str(error))
            return False
        finally:
            self._owners |= delivery.owners
        if not done and delivery.ended:
            journal.discard()
        return done

    def _opened(self, heading: Mapping[str, Any]) -> Store:
        key = heading["uri"], heading["experiment"]
        if key not in self._stores:
            self._stores[key] = Store(key[0], Path(heading["root"]), key[1])
        return self._stores[key]

    def follow(self, stop: threading.Event) -> None:
        """Deliver while a process that the records belong to lives, and then what is left and can be."""
        ended: float | None = None
        asked = 0.0
        while not stop.is_set():
            if self.once():
                ended = None
                continue
            if time.monotonic() - asked > OWNERS_S:
                asked = time.monotonic()
                alive = any(not process.gone(owner) for owner in self._owners)
                ended = None if alive else ended or asked
            if ended and (not waiting(self.root) or time.monotonic() - ended > GRACE_S):
                return
            stop.wait(POLL_S)
