"""The book of a search, kept in the driver: reports become records, each with a line of progress."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace

from pipeline.ncsn.errors import UserError
from pipeline.search.journal import Journal, Known, before
from pipeline.search.picture import PICTURE
from pipeline.search.records import FAILED, FINISHED, STOPPED, Record, Settings, best
from pipeline.search.reports import Report
from pipeline.search.space import Budget

logger = logging.getLogger("pipeline.search")

OnTrial = Callable[[Record], None]


class Ledger:
    """Takes what happens to the trials, by their places from 0, in whatever order it does."""

    def __init__(self, metric: str, budget: Budget, journal: Journal, on_trial: OnTrial | None) -> None:
        self.known: Known = journal.known()
        self.records: list[Record] = []
        self._metric, self._budget, self._journal, self._on_trial = metric, budget, journal, on_trial
        self._live: dict[int, Record] = {}
        self._started: dict[int, float] = {}
        self._dead: list[Record] = []
        self._begin = time.monotonic()
        if self.known:
            logger.info("%d of %d trials were done before", len(self.known), budget.num_trials)

    def start(self, place: int, settings: Settings) -> None:
        """A trial begins."""
        self._live[place] = Record(place + 1, settings)
        self._started[place] = time.monotonic()

    def report(self, place: int, report: Report) -> None:
        """A trial reached a rung, or failed."""
        record = self._live[place]
        if "reason" in report:
            self._live[place] = replace(record, status=FAILED, reason=report["reason"])
            return
        rungs = (*record.rungs, report["metrics"])
        status = FINISHED if len(rungs) == len(self._budget.rungs) else STOPPED
        picture = report.get(PICTURE, "")
        self._live[place] = replace(record, rungs=rungs, status=status, picture=picture)

    def end(self, place: int, died: str = "") -> None:
        """A trial ended, or its process `died`, with this reason."""
        record = replace(self._live[place], seconds=time.monotonic() - self._started[place])
        if died:
            record = replace(record, status=FAILED, reason=died)
        earlier = before(self.known, place, record.settings)
        if earlier:
            record = replace(record, seconds=earlier.seconds)
        else:
            self._keep(record, bool(died))
        self.records.append(record)
        self._log(record)
        if self._on_trial is not None:
            self._on_trial(record)

    def _keep(self, record: Record, died: bool) -> None:
        """Journal a trial; one whose process died only when a later one ends well.

        What kills the driver may kill the processes first: that is no failure of their trials.
        """
        self._dead.append(record)
        if not died:
            for each in self._dead:
                self._journal.add(each)
            self._dead.clear()

    def closed(self) -> list[Record]:
        """The records in the order of proposal.

        Raises:
            UserError: every trial failed; the message holds the first reason.
        """
        records = sorted(self.records, key=lambda record: record.trial)
        if len(records) != self._budget.num_trials:
            raise RuntimeError(f"the search ended after {len(records)} of {self._budget.num_trials} trials")
        if all(record.status == FAILED for record in records):
            raise UserError(
                f"All {len(records)} trials of the search failed, the first with: {records[0].reason}. "
                "Mend that, or narrow the bounds of the search in params.yaml."
            )
        return records

    def _log(self, record: Record) -> None:
        done, total = len(self.records), self._budget.num_trials
        left = (time.monotonic() - self._begin) / done * (total - done)
        outcome = f"trial {record.trial}: {self._outcome(record)}"
        logger.info("%d of %d trials; %s; %s; about %.0f s left", done, total, outcome, self._leader(), left)

    def _outcome(self, record: Record) -> str:
        reached = f"{record.status} at rung {len(record.rungs)} of {len(self._budget.rungs)}"
        if record.status == FAILED:
            return f"{reached} ({record.reason})"
        return f"{self._metric} {record.metrics[self._metric]:.4g}, {reached}"

    def _leader(self) -> str:
        if all(record.status == FAILED for record in self.records):
            return "none good so far"
        leader = best(self.records, self._metric)
        return f"best {leader.metrics[self._metric]:.4g} (trial {leader.trial})"
