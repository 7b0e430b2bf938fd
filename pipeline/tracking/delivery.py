"""One record on its way to its store: a line is acknowledged once the store has it, told again until then.

A line that may have arrived without an acknowledgement is compared with what the store has.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipeline.ncsn.errors import UserError
from pipeline.tracking import pipeline_run, process
from pipeline.tracking.errors import RefusedError
from pipeline.tracking.journal import Journal, Line
from pipeline.tracking.notes import now, with_paths
from pipeline.tracking.store.opening import Store
from pipeline.tracking.store.run import BATCH, Point, StoredRun


class Delivery:
    """Delivers a record, from where an earlier process came to.

    Attributes:
        uri: of its store.
        owners: the processes that the stage's lives belong to, as `process.key` names them.
        ended: whether it ends with its stage's end, which nobody goes on with, and all is delivered.
    """

    def __init__(self, journal: Journal, opened: Callable[[Mapping[str, Any]], Store]) -> None:
        """
        Args:
            opened: from a heading to its store.
        """
        self.journal, self._opened = journal, opened
        self.state = journal.delivered()
        self.uri, self.owners = "", set[str]()
        self._heading: dict[str, Any] = {}
        self.ended = journal.ended() and not journal.pending()
        self._doubtful, self._told = 0, 0
        for line in journal.lines():
            self._doubtful = line.end
            if line.call == "begin":
                self.uri = line.arguments["uri"]
                self.owners.add(line.arguments["owner"])
                self._heading = line.arguments if line.end <= self.state.offset else self._heading

    def advance(self) -> bool:
        """Deliver what is there; returns whether there was anything.

        Raises:
            UnreachableError: the store cannot be used now.
            UserError: the run cannot begin in it.
        """
        lines = self.journal.lines(self.state.offset)
        self.owners |= {line.arguments["owner"] for line in lines if line.call == "begin"}
        for batch in _batches(lines):
            try:
                self._deliver(batch)
            except RefusedError as error:
                if batch[0].call == "begin":
                    self.waits(str(error))
                    raise
                self.state.refused.append(f"{batch[0].call}: {error}")
            except UserError as error:
                self._doubtful = max(self._doubtful, batch[-1].end)
                self.waits(str(error))
                raise
            self.state.offset, self.state.problem = batch[-1].end, ""
            self.ended = batch[-1].ends
            self.journal.acknowledge(self.state)
        return bool(lines)

    def waits(self, problem: str) -> None:
        """Let whoever waits know why the lines that are there cannot be delivered."""
        if self.journal.size() != self._told:
            self._told = self.journal.size()
            self.state.problem, self.state.tried = problem, now()
            self.journal.acknowledge(self.state)

    @property
    def store(self) -> Store:
        return self._opened(self._heading)

    def _deliver(self, batch: list[Line]) -> None:
        line, doubtful = batch[0], batch[0].start < self._doubtful
        if line.call == "begin":
            self._heading = line.arguments
            run, parent = pipeline_run.begin(self.store, line.arguments, self._mark(""), line.at)
            self.state.runs[""], self.state.parent = run.id, parent
        elif line.call == "find":
            found = self.store.search(line.arguments["tags"], status="FINISHED")
            self.state.answers[str(line.start)] = found[0].info.run_id if found else ""
        elif line.call == "tags_of":
            entity = self.store.get(line.arguments["run_id"])
            self.state.answers[str(line.start)] = dict(entity.data.tags) if entity else {}
        else:
            self._tell(self._run(line), batch, doubtful)

    def _run(self, line: Line) -> StoredRun:
        place = _place(line)
        if place not in self.state.runs:
            raise RefusedError(self._heading.get("uri", "?"), "its run was not begun")
        return self.store.run(self.state.runs[place])

    def _tell(self, run: StoredRun, batch: list[Line], doubtful: bool) -> None:
        line, told = batch[0], with_paths(batch[0].arguments)
        if line.call == "log_metrics":
            points = [point for line in batch for point in _points(line)]
            run.points(run.missing(points) if doubtful else points)
        elif line.call == "child":
            self._child(run, line, doubtful)
        elif line.call == "end":
            if line.address:
                self.store.end(run.id, told["status"], line.at)
            else:
                pipeline_run.end(self.store, self._heading, run, self.state.parent, told["status"], line.at)
        elif line.call == "summarise" and self.state.parent:
            above = self.store.run(self.state.parent)
            above.points(_points(line))
            above.log_artifact(told["path"])
        elif line.call == "log_network" and doubtful and run.has_network(told["name"], told["identity"]):
            return
        elif line.call in SIMPLE:
            getattr(run, line.call)(**told)

    def _child(self, run: StoredRun, line: Line, doubtful: bool) -> None:
        place = ".".join(map(str, (*line.address, line.arguments["number"])))
        mark = {pipeline_run.RECORD: self._mark(place)}
        left = self.store.search(mark) if doubtful else []
        tags = process.tags("trial") | {"pipeline.process": self._heading["tags"]["pipeline.process"]}
        name = line.arguments["name"]
        made = (
            self.store.run(left[0].info.run_id)
            if left
            else self.store.create(name, tags | mark, run.id, line.at)
        )
        self.state.runs[place] = made.id
        made.log_params(line.arguments["params"] or {})

    def _mark(self, place: str) -> str:
        return f"{self.journal.path.stem}/{place}"


SIMPLE = (
    "log_params",
    "set_tags",
    "log_artifact",
    "log_picture",
    "log_dataset",
    "log_network",
    "report_network",
)


def _place(line: Line) -> str:
    return ".".join(map(str, line.address))


def _points(line: Line) -> list[Point]:
    step = line.arguments.get("step", 0)
    return [Point(key, value, line.at, step) for key, value in line.arguments["values"].items()]


def _batches(lines: list[Line]) -> Iterator[list[Line]]:
    """Lines one by one, but metrics of one run that follow each other together."""
    batch: list[Line] = []
    size = 0
    for line in lines:
        more = len(line.arguments["values"]) if line.call == "log_metrics" else BATCH
        alike = batch and (line.call, line.address) == (batch[0].call, batch[0].address)
        if batch and not (alike and size + more <= BATCH):
            yield batch
            batch, size = [], 0
        batch, size = [*batch, line], size + more
    if batch:
        yield batch
