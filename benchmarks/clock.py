"""Seconds per stage, from the times at which `dvc repro` wrote its lines."""

import re

Line = tuple[float, str]
RUNNING = re.compile(r"^Running stage '(?P<name>[^']+)'")


def stage_seconds(lines: list[Line], end: float) -> dict[str, float]:
    """How long each stage ran: from its `Running stage` line to the next one, the last to `end`.

    DVC's own work for a stage (hashing its outputs, writing the lock) is part of the stage's time.
    """
    starts = [(at, found["name"]) for at, text in lines if (found := RUNNING.match(text))]
    ends = [*(at for at, _ in starts), end][1:]
    return {name: round(until - at, 2) for (at, name), until in zip(starts, ends, strict=True)}
