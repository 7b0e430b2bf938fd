"""Processes that own runs: found among the ancestors, recognised later, and known to have ended."""

import platform
from pathlib import PurePath

import psutil

SLACK = 2.0
"""Seconds by which two readings of a process's start may differ: the system's boot time is adjusted."""


def key(process: psutil.Process) -> str:
    """A process's globally unique name: host/pid/start in seconds."""
    return f"{prefix(process)}{process.create_time():.0f}"


def prefix(process: psutil.Process) -> str:
    """The part of a key that is the same at every reading."""
    return f"{host()}/{process.pid}/"


def host() -> str:
    """This machine's name, without the characters that a tag's filter would read as syntax."""
    return "".join(c if c.isalnum() or c in ".-" else "-" for c in platform.node()) or "localhost"


def tags(level: str, owner: psutil.Process | None = None) -> dict[str, str]:
    """What marks a run as a process's own (this one's by default), to be ended when that is gone."""
    name = key(owner or psutil.Process())
    return {"pipeline.level": level, "pipeline.process": name, "pipeline.host": host()}


def same(one: str, other: str) -> bool:
    """Whether two keys name one process."""
    (place, start), (other_place, other_start) = one.rsplit("/", 1), other.rsplit("/", 1)
    return place == other_place and abs(float(start) - float(other_start)) <= SLACK


def gone(owner: str) -> bool:
    """Whether the process of a key of this host has ended."""
    try:
        return not same(owner, key(psutil.Process(int(owner.split("/")[1]))))
    except psutil.NoSuchProcess:
        return True


def pipeline_owner() -> psutil.Process:
    """The nearest ancestor that is `dvc` (one `dvc repro` or `dvc exp run`), or else this process."""
    here = psutil.Process()
    return next((p for p in here.parents() if is_dvc(command(p))), here)


def command(process: psutil.Process) -> list[str]:
    """A process's command line; empty where it is gone or not ours to see."""
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def is_dvc(arguments: list[str]) -> bool:
    """Whether a command line is DVC's: `dvc ...`, `python [...] /path/dvc ...` or `python -m dvc ...`."""
    names = [PurePath(a).name.removesuffix(".exe") for a in arguments]
    if not names or not names[0].startswith("python"):
        return names[:1] == ["dvc"]
    if "-m" in names:
        return names[names.index("-m") + 1 :][:1] == ["dvc"]
    return next((name for name in names[1:] if not name.startswith("-")), None) == "dvc"
