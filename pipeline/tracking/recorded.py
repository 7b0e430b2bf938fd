"""The run of a stage or trial that is written to a record, and delivered from there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.git import commit
from pipeline.tracking.notes import Address, NotedRun
from pipeline.tracking.provenance import manifest_of, numbers
from pipeline.tracking.runs import Run
from pipeline.tracking.writer import Book, point


class RecordedRun(NotedRun):
    """See `runs.Run`. Only `id`, `parent_id`, `find` and `tags_of` wait for the store."""

    def __init__(self, book: Book, address: Address = ()) -> None:
        super().__init__(book.journal.path, address)
        self._book = book

    def _note(self, call: str, **arguments: Any) -> None:
        kept = {
            key: self._book.keep(value, deep=key != "checkpoint") if isinstance(value, Path) else value
            for key, value in arguments.items()
        }  # a checkpoint's snapshots are networks by themselves
        self._book.write(self._address, call, kept)

    def _at(self, address: Address) -> Run:
        return RecordedRun(self._book, address)

    def log_metrics(self, values: Mapping[str, Any], step: int = 0) -> None:
        known, address = self._book.known, self._address
        found = numbers(values).items()
        new = {key: value for key, value in found if point(address, key, value, step) not in known}
        if new:
            self._note("log_metrics", values=new, step=step)

    def log_picture(self, name: str, png: str) -> None:
        if (self._address, "picture", name) not in self._book.known:
            super().log_picture(name, png)

    def log_network(self, checkpoint: Path, name: str, shape: tuple[int, int, int]) -> None:
        identity = manifest_of(checkpoint)
        if (self._address, "network", name, identity) not in self._book.known:
            said = {"identity": identity, "described": f"{name}, commit {commit().short()}"}
            self._note("log_network", checkpoint=checkpoint, name=name, shape=shape, **said)

    def report_network(self, checkpoint: Path, name: str, note: str) -> None:
        self._note("report_network", identity=manifest_of(checkpoint), name=name, note=note)

    def child(self, name: str, params: Mapping[str, Any] | None = None) -> Run:
        number = self._children
        if (self._address, "child", number, name) not in self._book.known:
            return super().child(name, params)
        self._children += 1
        return self._at((*self._address, number))

    @property
    def id(self) -> str | None:  # type: ignore[override]
        place = ".".join(map(str, self._address))
        return self._book.wait(lambda state: state.runs.get(place))

    @property
    def parent_id(self) -> str | None:  # type: ignore[override]
        return self._book.wait(lambda state: state.parent)

    def find(self, tags: Mapping[str, str]) -> str | None:
        return self._ask("find", {"tags": tags}) or None

    def tags_of(self, run_id: str) -> dict[str, str]:
        return self._ask("tags_of", {"run_id": run_id}) or {}

    def _ask(self, call: str, arguments: Mapping[str, Any]) -> Any:
        start = str(self._book.write(self._address, call, arguments))
        return self._book.wait(lambda state: state.answers.get(start))
