"""What a stage costs before its work: the import of its module, or a run of two Ray workers that do nothing.

`python -m benchmarks.startup [--ray] [--old COMMIT] [--repeats N]` compares a commit, in a temporary work tree, with
this tree, in turns. Imports are in CPU seconds of one process, with the modules that it holds then. A run of workers
is in CPU seconds of all processes, Ray's included, from the start of the driver on.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
OLD = "44289ff"
IMPORT = """
import importlib, sys, time
start = time.process_time()
importlib.import_module(sys.argv[1])
print(time.process_time() - start, len(sys.modules))
"""
WORKERS = """
import sys, tempfile
from pathlib import Path
from pipeline.cluster.connect import connect, worker_environment
from pipeline.cluster.trainer import run_workers, scaling_of

def main():
    two = scaling_of(2, None, cpus_per_worker=1, gpu=False)
    with tempfile.TemporaryDirectory() as folder, connect(workers=2, cpus_per_worker=1, use_gpu=False):
        records, environment = Path(folder), worker_environment(1)
        run_workers(print, {}, two, micro_batches=2, name="nothing", records=records, environment=environment)

main()
"""


def main() -> None:
    """Measure in turns, print."""
    parser = argparse.ArgumentParser("python -m benchmarks.startup", description=__doc__.partition("\n")[0])
    parser.add_argument("--ray", action="store_true", help="a run of workers instead of imports")
    parser.add_argument("--old", metavar="COMMIT", default=OLD, help=OLD)
    parser.add_argument("--repeats", metavar="N", type=int, default=3, help="3")
    options = parser.parse_args()
    with work_tree(options.old) as old:
        lines = workers(old, options.repeats) if options.ray else doors(old, options.repeats)
        sys.stdout.writelines(f"{line}\n" for line in lines)


@contextmanager
def work_tree(commit: str) -> Iterator[Path]:
    """A commit's files in a folder that is deleted afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
        subprocess.run(["tar", "x", "-C", folder], input=archive, check=True)
        yield Path(folder)


def doors(old: Path, repeats: int) -> Iterator[str]:
    """A row for each stage that both have: the smallest CPU seconds of its import, and modules."""
    yield "| stage | CPU s, old | new | ratio | modules, old | new |\n|---|--:|--:|--:|--:|--:|"
    names = ({path.stem for path in (tree / "stages").glob("[a-z]*.py")} for tree in (old, ROOT))
    for name in sorted(set.intersection(*names)):
        turns = [(imported(old, name), imported(ROOT, name)) for _ in range(repeats)]
        (before, held), (after, now) = map(min, zip(*turns, strict=True))
        yield f"| {name} | {before:.2f} | {after:.2f} | {after / before:.2f} | {held:.0f} | {now:.0f} |"


def imported(tree: Path, stage: str) -> tuple[float, float]:
    """CPU seconds of the import of a stage's module in a new process, and the modules that it holds."""
    command = [sys.executable, "-c", IMPORT, f"stages.{stage}"]
    seconds, modules = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=True).stdout.split()
    return float(seconds), float(modules)


def workers(old: Path, repeats: int) -> Iterator[str]:
    """A row: the medians, their ratio."""
    yield "| two Ray workers that do nothing | CPU s, old | new | ratio |\n|---|--:|--:|--:|"
    turns = [(cost(old), cost(ROOT)) for _ in range(repeats)]
    before, after = map(statistics.median, zip(*turns, strict=True))
    yield f"| {repeats} runs each | {before:.1f} | {after:.1f} | {after / before:.2f} |"


def cost(tree: Path) -> float:
    """CPU seconds of the driver and all processes below it, as they were last seen."""
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(tree)}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | quiet
    seen: dict[int, float] = {}
    with subprocess.Popen([sys.executable, "-c", WORKERS], cwd=tree, env=environment, stdout=subprocess.DEVNULL) as run:
        watch = threading.Thread(target=_watch, args=(psutil.Process(run.pid), seen))
        watch.start()
        if run.wait():
            sys.exit(f"error: the run of {tree} ended with {run.returncode}")
        watch.join()
    return sum(seen.values())


def _watch(driver: psutil.Process, seen: dict[int, float]) -> None:
    while driver.is_running() and driver.status() != psutil.STATUS_ZOMBIE:
        try:
            for process in (driver, *driver.children(recursive=True)):
                times = process.cpu_times()
                seen[process.pid] = times.user + times.system
        except psutil.Error:
            pass  # a process that has just ended keeps what was last seen of it
        time.sleep(0.05)


if __name__ == "__main__":
    main()
