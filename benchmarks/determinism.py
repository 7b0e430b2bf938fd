"""What equal bits on any number of workers cost: `bitwise` against plain DDP, with two workers.

    python -m benchmarks.determinism --rounds 15

The network of `recipes.ncsnv2` on its batch, two processes of one thread, gloo; both ways in turn, in blocks
of steps, in the same processes. The ratio is of the medians of the first worker; CPU time is that of both.
"""

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from benchmarks.machine import describe
from pipeline.ncsn.noise import geometric_sigmas
from pipeline.params import load
from pipeline.training.allreduce import gathered
from pipeline.training.loop import train
from pipeline.training.state import fresh
from pipeline.training.task import Task

WAYS = ("bitwise", "fast")
IMAGES = np.random.default_rng(0).integers(0, 256, (1437, 1, 8, 8), np.uint8)
BLOCK = 20


def task(recipe: str) -> Task:
    """The default training of a recipe, without an end."""
    params = load()
    settings = params.recipes[recipe].model_copy(update={"steps": 10**6})
    sigmas = geometric_sigmas(1.0, 0.01, 10)
    made = Task.build(settings, params.train, sigmas=sigmas, image_shape=(1, 8, 8), data_sha256="0" * 64)
    return dataclasses.replace(made, log_every=10**6)


def work(rank: int, meeting: str, recipe: str, rounds: int) -> None:
    """A worker; the first prints the rows."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=2)
    runs, seconds, cpu = {}, {way: [] for way in WAYS}, {way: [] for way in WAYS}
    for way in WAYS:
        made = dataclasses.replace(task(recipe), determinism=way)
        runs[way] = train(made, IMAGES, state=fresh(made))
    for _ in range(rounds + 1):
        for way in WAYS:
            dist.barrier()
            start, used = time.perf_counter(), time.process_time()
            for _ in range(BLOCK):
                next(runs[way])
            seconds[way].append((time.perf_counter() - start) / BLOCK)
            cpu[way].append(sum(gathered(time.process_time() - used, None)) / BLOCK)
    if rank == 0:
        for kind, found in (("wall", seconds), ("CPU of both", cpu)):
            medians = {way: 1000 * statistics.median(found[way][1:]) for way in WAYS}
            ratio = medians["bitwise"] / medians["fast"]
            sys.stdout.write(
                f"| {recipe} | {kind} | {medians['bitwise']:.1f} | {medians['fast']:.1f} | {ratio:.2f} |\n"
            )
            sys.stdout.flush()
    dist.barrier()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--recipes", nargs="+", default=["ncsnv2"])
    given = parser.parse_args()
    sys.stdout.write(f"{describe()}\n\n| recipe | time | bitwise, ms a step | fast, ms a step | ratio |\n")
    sys.stdout.write("| :-- | :-- | --: | --: | --: |\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as place:
        for recipe in given.recipes:
            mp.spawn(work, (str(Path(place) / recipe), recipe, given.rounds), nprocs=2)


if __name__ == "__main__":
    main()
