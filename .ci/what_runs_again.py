"""Hold docs/what_runs_again.md against DVC: make each change to a finished run of a preset, and undo it.

Light stages run for real, since what follows them depends on whether their files change. Any other stage that
DVC calls changed is taken to write other outputs, so that all behind which it stands runs again too.
"""

import contextlib
import fnmatch
import logging
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dvc.repo import Repo

from pipeline.files import read_yaml, write_text, write_yaml
from pipeline.reporting.lineage import StageGraph

TABLE = Path("docs/what_runs_again.md")
LIGHT = ("program", "settle_noise", "settle_sampler")
WRITTEN = ("params.yaml", "dvc.lock", "artifacts/program", "artifacts/noise", "artifacts/sampler")
"""What a change of params.yaml and the light stages write."""
SOURCES: dict[Path, str | None] = {}
"""The sources that a change wrote, as they were; None: not there."""
LINE = re.compile(r"^\| (?P<change>[^|]+) \| (?P<stages>`.*`|none) \|$", re.M)
Params = dict[str, Any]


def append(path: str, text: str) -> Callable[[Params], object]:
    """An edit that adds lines to a file; one of extensions/ is new."""

    def edit(_: Params) -> None:
        new = path.startswith("extensions/")
        write(Path(path), ("" if new else Path(path).read_text()) + text)

    return edit


def docstring(path: str) -> Callable[[Params], object]:
    """An edit of a module's docstring."""
    return lambda _: write(Path(path), Path(path).read_text().replace('"""', '"""Edited. ', 1))


def write(path: Path, text: str) -> None:
    """Write a source, and note how it was."""
    SOURCES.setdefault(path, path.read_text() if path.exists() else None)
    write_text(path, text)


def mine(params: Params) -> None:
    params["rows"]["mine"] = params["rows"]["ncsnv2"]
    params["sampler"]["mine"] = {"kind": "langevin", "step_size": "analytic", "steps_per_level": 3}


CHANGES: dict[str, Callable[[Params], object]] = {
    "Another setting of a row's sampler": lambda p: p["sampler"]["ncsnv2"].update(steps_per_level=2),
    "A new row on a trained network": mine,
    "Another noise range of a network": lambda p: p["noise"]["ncsn"].update(num_levels=9),
    "Another setting of the metrics": lambda p: p["evaluate"].update(nearest_k=4),
    "A new measure in `extensions/measures`": append("extensions/measures/mine.py", "x = 1\n"),
    "Another margin of the report": lambda p: p["report"].update(margin=0.2),
    "Another bound of the sampler search": lambda p: p["tune_sampler"].update(budget_share=[0.5, 1.0]),
    "Another bound of the noise search": lambda p: p["tune_noise"].update(num_levels_ratio=[0.5, 1.5]),
    "A constant in the network `unet`": append("pipeline/ncsn/networks/unet.py", "\nEDITED = 1\n"),
    "A constant in the figures": append("pipeline/reporting/figures/style.py", "\nEDITED = 1\n"),
    "A new network in `extensions/networks`": append("extensions/networks/mine.py", "x = 1\n"),
    "A docstring in the training loop": docstring("pipeline/training/loop.py"),
    "A comment in a sampler": append("pipeline/ncsn/samplers/langevin.py", "# edited\n"),
}


def promised() -> dict[str, list[str]]:
    """The table: by change, the patterns of the stages that run again."""
    lines = LINE.finditer(TABLE.read_text())
    return {line["change"]: re.findall("`([^`]+)`", line["stages"]) for line in lines}


@contextlib.contextmanager
def undone() -> Iterator[None]:
    """Put back all that a change and the light stages write."""
    with tempfile.TemporaryDirectory() as folder:
        for name in WRITTEN:
            _copy(Path(name), Path(folder) / name)
        try:
            yield
        finally:
            for name in WRITTEN:
                shutil.rmtree(name) if Path(name).is_dir() else Path(name).unlink()
                _copy(Path(folder) / name, Path(name))
            while SOURCES:
                path, text = SOURCES.popitem()
                path.unlink() if text is None else write_text(path, text)


def _copy(source: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, to, symlinks=True) if source.is_dir() else shutil.copy2(source, to)


def runs_again(change: Callable[[Params], object]) -> set[str]:
    """The stages that run again after a change, light ones left out."""
    params = read_yaml(Path("params.yaml"))
    change(params)
    params["tracking"]["enabled"] = False  # no stage reads it
    write_yaml(Path("params.yaml"), params)
    with Repo(".") as repo:
        repo.reproduce(list(LIGHT), single_item=True)
    graph, stale = StageGraph(Path()), changed() - set(LIGHT)
    return {name for name in graph.entries if name not in LIGHT and graph.behind([name]) & stale}


def changed() -> set[str]:
    """The stages that DVC calls changed, which leaves out what follows them."""
    with Repo(".") as repo:
        return set(repo.status())


def differs(change: str, patterns: list[str]) -> bool:
    """Make a change, print what runs again, and say whether it is not what the table says."""
    begin = time.perf_counter()
    with undone():
        mine_too = ["generate@mine", "evaluate@mine"] if change == "A new row on a trained network" else []
        names = [*StageGraph(Path()).entries, *mine_too]
        found, wanted = runs_again(CHANGES[change]), {n for p in patterns for n in fnmatch.filter(names, p)}
    print(f"{change}: {', '.join(sorted(found)) or 'none'} ({time.perf_counter() - begin:.0f} s)", flush=True)
    if found != wanted:
        print(f"  differs from {TABLE} in {', '.join(sorted(found ^ wanted))}", flush=True)
    return found != wanted


def main() -> int:
    logging.getLogger("dvc").setLevel(logging.ERROR)
    table = promised()
    if table.keys() != CHANGES.keys():
        print(f"{TABLE} and CHANGES differ in {', '.join(table.keys() ^ CHANGES.keys())}")
        return 1
    if before := changed():
        print(f"the run is not finished: {', '.join(sorted(before))}")
        return 1
    wrong = [change for change, patterns in table.items() if differs(change, patterns)]
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
