"""A run that takes notes: lines of JSON that another process tells another run."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.tracking.runs import NullRun, Run

Address = tuple[int, ...]
"""Which child of which child a run is, counted from the stage's, which is ()."""


def now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 10**6


def as_line(at: int, address: Address, call: str, arguments: Mapping[str, Any]) -> bytes:
    """A call as a line: [milliseconds since 1970, address, call, arguments]."""
    return json.dumps([at, address, call, arguments], default=_plain).encode() + b"\n"


def _plain(value: Any) -> Any:
    """numpy's numbers and paths as JSON's."""
    return value.item() if hasattr(value, "item") else str(value)


class NotedRun(NullRun):
    """Writes down what it is told in a file, for `replay` where the tracking store is."""

    def __init__(self, notes: Path, address: Address = ()) -> None:
        self._notes, self._address, self._children = notes, address, 0

    def _note(self, call: str, **arguments: Any) -> None:
        self._notes.parent.mkdir(parents=True, exist_ok=True)
        with self._notes.open("ab") as file:
            file.write(as_line(now(), self._address, call, arguments))

    def log_metrics(self, values: Mapping[str, Any], step: int = 0) -> None:
        self._note("log_metrics", values=values, step=step)

    def log_params(self, params: Mapping[str, Any]) -> None:
        self._note("log_params", params=params)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self._note("set_tags", tags=tags)

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        self._note("log_artifact", path=path, folder=folder)

    def log_picture(self, name: str, png: str) -> None:
        self._note("log_picture", name=name, png=png)

    def log_dataset(self, manifest: Mapping[str, Any]) -> None:
        self._note("log_dataset", manifest=manifest)

    def log_network(self, checkpoint: Path, name: str, shape: tuple[int, int, int]) -> None:
        self._note("log_network", checkpoint=checkpoint, name=name, shape=shape)

    def report_network(self, checkpoint: Path, name: str, note: str) -> None:
        self._note("report_network", checkpoint=checkpoint, name=name, note=note)

    def summarise(self, values: Mapping[str, float], path: Path) -> None:
        self._note("summarise", values=values, path=path)

    def child(self, name: str, params: Mapping[str, Any] | None = None) -> Run:
        number, self._children = self._children, self._children + 1
        self._note("child", name=name, params=params, number=number)
        return self._at((*self._address, number))

    def _at(self, address: Address) -> Run:
        return NotedRun(self._notes, address)

    def end(self, status: str = "FINISHED") -> None:
        if self._address:  # the stage's own run is ended by whoever replays, or by its context
            self._note("end", status=status)


def with_paths(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A line's arguments, with those that are paths as Path."""
    return {**arguments, **{k: Path(arguments[k]) for k in ("path", "checkpoint") if k in arguments}}


def replay(notes: Path, run: Run) -> None:
    """Tell `run` and its children all that a NotedRun wrote down, in order; a missing file is empty."""
    runs: dict[Address, Run] = {(): run}
    for line in notes.read_text(encoding="utf-8").splitlines() if notes.exists() else ():
        _, place, call, arguments = json.loads(line)
        here, told = tuple(place), with_paths(arguments)
        number = told.pop("number", None)
        made = getattr(runs[here], call)(**told)
        if number is not None:
            runs[(*here, number)] = made
