"""What kernels of one kind cost: training steps of each recipe with `portable` and `native` kernels.

    python -m benchmarks.kernels --rounds 5

A process of its own for each way and round, in turn, one thread; the ratio is of the medians of CPU time.
The bits of the weights after the steps are compared too: between ways, and between rounds of one way.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time

from benchmarks.machine import describe
from pipeline import kernels

WAYS = {"native": {}, "portable": kernels.PORTABLE}


def work(recipe: str, steps: int) -> None:
    """Print the CPU seconds of the steps, without the first five, and the hash of the weights."""
    from benchmarks.determinism import IMAGES, task
    from pipeline.training.loop import train
    from pipeline.training.state import fresh

    made = dataclasses.replace(task(recipe), micro_batches=1)
    state = fresh(made)
    run = train(made, IMAGES, state=state)
    for _ in range(5):
        next(run)
    start = time.process_time()
    for _ in range(steps):
        next(run)
    seconds = time.process_time() - start
    digest = hashlib.sha256(b"".join(value.numpy().tobytes() for value in state.network.state_dict().values()))
    sys.stdout.write(json.dumps([seconds, digest.hexdigest()[:8]]))


def measure(recipe: str, steps: int, rounds: int) -> str:
    """A row of the table."""
    found: dict[str, list[tuple[float, str]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, variables in WAYS.items():
            command = [sys.executable, "-m", "benchmarks.kernels", "--work", recipe, "--steps", str(steps)]
            clean = {name: value for name, value in os.environ.items() if name not in kernels.PORTABLE}
            done = subprocess.run(command, env=clean | variables, capture_output=True, text=True, check=True)
            found[way].append(tuple(json.loads(done.stdout)))
    medians = {way: 1000 * statistics.median(seconds for seconds, _ in of) / steps for way, of in found.items()}
    bits = {way: "/".join(sorted({digest for _, digest in of})) for way, of in found.items()}
    ratio = medians["portable"] / medians["native"]
    cells = [recipe, f"{medians['native']:.1f}", f"{medians['portable']:.1f}", f"{ratio:.2f}", *bits.values()]
    return f"| {' | '.join(cells)} |\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--recipes", nargs="+", default=["ncsn", "ncsnv2", "edm"])
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.work, given.steps)
        return
    sys.stdout.write(
        f"{describe()}\n\n| recipe | native, ms a step | portable | ratio | native's bits | portable's |\n"
    )
    sys.stdout.write("| :-- | --: | --: | --: | :-- | :-- |\n")
    for recipe in given.recipes:
        sys.stdout.write(measure(recipe, given.steps, given.rounds))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
