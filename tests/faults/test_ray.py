"""A run on a real Ray Train, its processes killed, stopped, terminated: same bits, and nobody left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.distributed.stopping import EXIT_CODE
from pipeline.training.run import run
from pipeline.training.state import checkpoints
from pipeline.training.task import Task
from tests.training.tiny import digest, make_images, make_task

pytestmark = pytest.mark.faults
ROOT = Path(__file__).parents[2]
HANG_S = 4.0
PATIENCE_S = 120.0
STEPS = {"steps": 1200, "checkpoint_every": 10, "log_every": 5}
DRIVER = f"""
import logging, sys
from pathlib import Path
from pipeline.distributed.train import fit
from pipeline.errors import UserError
from tests.training.tiny import make_images, make_task

logging.basicConfig(level=logging.WARNING)
task = make_task(**{{**{STEPS}, "steps": int(sys.argv[2])}})
try:
    fit(task, make_images(), Path(sys.argv[1]), workers=2, cpus_per_worker=1, use_gpu=False, max_failures=2,
        hang_timeout_s={HANG_S}, on_event=lambda told: None)
except UserError as error:
    sys.exit(f"error: {{error}}")
"""


class Driver:
    """`fit` in a process of its own, as a stage is."""

    def __init__(self, folder: Path, steps: int) -> None:
        self.folder = folder
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        command = [sys.executable, "-c", DRIVER, str(folder), str(steps)]
        self.process = psutil.Popen(
            command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def wait_for(self, step: int) -> None:
        """Wait until a step is saved."""
        self.until(lambda: step_of(self.folder) >= step)

    def until(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def named(self, name: str) -> list[psutil.Process]:
        return [child for child in self.process.children(recursive=True) if name in " ".join(command(child))]

    def end(self) -> tuple[int, str]:
        told = self.process.communicate(timeout=PATIENCE_S)[1]
        return self.process.returncode, told


def command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def step_of(folder: Path) -> int:
    """The step of the newest checkpoint; 0 without one."""
    found = checkpoints(folder)
    return int(found[-1].name[5:]) if found else 0


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The bits of an undisturbed run, of one process."""
    return digest(run(short(), make_images(), tmp_path_factory.mktemp("undisturbed")))


def short() -> Task:
    return make_task(**{**STEPS, "steps": 120})


def finish(folder: Path) -> dict[str, str]:
    driver = Driver(folder, 120)
    code, told = driver.end()
    assert code == 0, told
    return digest(folder / "step_00000120")


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    made = Driver(tmp_path / "run", 120)
    family: list[psutil.Process] = []
    try:
        made.wait_for(20)
        family = made.process.children(recursive=True)
        yield made
    finally:
        for process in [made.process, *family]:
            if process.is_running():
                process.kill()
        made.process.communicate()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_worker_is_replaced(driver: Driver, rank: int, expected: dict[str, str]) -> None:
    driver.named("RayTrainWorker")[rank].kill()
    code, told = driver.end()
    assert code == 0, told
    assert digest(driver.folder / "step_00000120") == expected


def test_a_worker_that_hangs_is_noticed_and_replaced(driver: Driver, expected: dict[str, str]) -> None:
    driver.named("RayTrainWorker")[1].send_signal(signal.SIGSTOP)
    code, told = driver.end()
    assert code == 0, told
    assert digest(driver.folder / "step_00000120") == expected


def test_sigterm_saves_and_ends_with_its_code(driver: Driver, expected: dict[str, str]) -> None:
    driver.process.terminate()
    code, told = driver.end()
    assert code == EXIT_CODE
    assert "stopped by SIGTERM and saved" in told
    assert 20 < step_of(driver.folder) < 120
    assert finish(driver.folder) == expected


@pytest.mark.parametrize("victim", ["driver", "raylet"])
def test_a_killed_driver_or_node_leaves_nobody_and_costs_one_interval(
    driver: Driver, victim: str, expected: dict[str, str]
) -> None:
    family = driver.process.children(recursive=True)
    reached = step_of(driver.folder)
    (driver.process if victim == "driver" else driver.named("raylet/raylet")[0]).kill()
    if victim == "raylet":
        driver.process.kill()  # it would wait for its node, which never comes back on one machine
    driver.process.wait()
    assert not psutil.wait_procs(family, timeout=20)[1], "a process outlived its driver"
    assert step_of(driver.folder) >= reached
    assert finish(driver.folder) == expected


def test_a_second_driver_is_refused_within_a_second(driver: Driver, expected: dict[str, str]) -> None:
    code, told = Driver(driver.folder, 120).end()
    assert code == 1
    assert f"process {driver.process.pid} on " in told
    assert "is the driver of the training in" in told
    assert driver.end()[0] == 0
    assert digest(driver.folder / "step_00000120") == expected
