"""Kills at random times, of random processes, in the middle of random writes: always the undisturbed bits.

The seed is printed: FAULTS_SEED=n repeats the choices, though not the microsecond at which a process dies.
FAULTS_KILLS=n asks for more.
"""

import collections
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from pipeline.training.checkpoints import checkpoints, finished, newest_verified
from pipeline.training.fit import fit
from tests.faults.crashes import POINTS, TASK, train
from tests.training.tiny import digest, kept, make_images, make_task

SAMPLE, MANY = 6, 60
WORKERS = (1, 2, 4)
ALL_GONE_S = 30.0
PRELOADED = ["torch", "torch.distributed", "tests.faults.crashes"]


class Group:
    """Workers of a run, started together, without a Ray to start them again."""

    def __init__(self, folder: Path, meeting: Path, workers: int, crash: tuple[str, int] | None) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self.processes: list[ForkServerProcess] = [
            context.Process(target=train, args=(folder, meeting, rank, workers, crash)) for rank in range(workers)
        ]
        for process in self.processes:
            process.start()

    def wait(self, seconds: float) -> None:
        """Wait so long, or until one ends."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and all(process.is_alive() for process in self.processes):
            time.sleep(0.002)

    def gone(self) -> bool:
        """Whether all end by themselves, soon."""
        deadline = time.monotonic() + ALL_GONE_S
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        return not any(process.is_alive() for process in self.processes)

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()


class Chaos:
    """Random kills of one run after another; `found` counts those that hit a training."""

    def __init__(self, place: Path, seed: int) -> None:
        self.place, self.chosen = place, random.Random(seed)
        self.task, self.found = make_task(**TASK), collections.Counter[str]()
        self.expected = digest(fit(self.task, make_images(), place / "undisturbed"))
        self.rounds = self.lives = 0

    def go(self, kills: int) -> None:
        """Kill so often, and compare whatever came to its end."""
        while self.found.total() < kills:
            folder = self.place / f"run {self.rounds}"
            self._life(folder)
            if finished(folder, self.task):
                self._compare(folder)
        folder = self.place / f"run {self.rounds}"
        fit(self.task, make_images(), folder)
        self._compare(folder)

    def _compare(self, folder: Path) -> None:
        assert digest(folder / f"step_{self.task.steps:08d}") == self.expected
        assert kept(folder) == kept(self.place / "undisturbed")
        self.rounds += 1

    def _life(self, folder: Path) -> None:
        """A group of a random size, one or all of which die at a random time, or in the middle of a write."""
        reached = newest(folder)
        workers, self.lives = self.chosen.choice(WORKERS), self.lives + 1
        victim = self.chosen.choice(["rank 0", "rank k", "all", "write", "write"])
        crash = (self.chosen.choice(POINTS), self.chosen.randint(1, 12)) if victim == "write" else None
        group = Group(folder, self.place / f"meeting {self.lives}", workers, crash)
        try:
            group.wait(30.0 if crash else self.chosen.uniform(0.0, 0.3 + 0.2 * workers))
            if all(process.is_alive() for process in group.processes):
                self._strike(group, victim)
            assert group.gone(), f"a worker outlived {victim} of {workers}"
        finally:
            group.kill()
        if any(process.exitcode == -9 for process in group.processes):
            self.found[f"{victim} {crash[0]}" if crash else victim] += 1
            told = f"{self.found.total()} kills in {self.lives} lives of {self.rounds} runs: {dict(self.found)}"
            sys.stdout.write(told + "\n")
        assert newest(folder) >= reached, "a finished checkpoint was lost"

    def _strike(self, group: Group, victim: str) -> None:
        rank = {"rank 0": 0, "rank k": len(group.processes) - 1}.get(victim)
        for process in group.processes if rank is None else [group.processes[rank]]:
            process.kill()


def newest(folder: Path) -> int:
    """The step of the newest checkpoint that verifies."""
    found = newest_verified(folder, make_task(**TASK)) if checkpoints(folder) else None
    return found.step if found else 0


@pytest.fixture
def chaos(tmp_path: Path) -> Iterator[Chaos]:
    seed = int(os.environ.get("FAULTS_SEED", time.time_ns() % 10**6))
    sys.stdout.write(f"FAULTS_SEED={seed}\n")
    yield Chaos(tmp_path, seed)


def test_a_few_random_kills(chaos: Chaos) -> None:
    chaos.go(SAMPLE)


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_many_random_kills(chaos: Chaos) -> None:
    chaos.go(int(os.environ.get("FAULTS_KILLS", MANY)))
    assert {"rank 0", "rank k", "all"} <= chaos.found.keys()
