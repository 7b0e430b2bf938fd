"""A run on a real Ray Train, its processes killed, stopped, terminated: same bits, and nobody left behind."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.cluster.train import EXIT_CODE
from pipeline.training.checkpoints import checkpoints
from pipeline.training.fit import fit
from tests.training.tiny import digest, make_images, make_task

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
HANG_S = 4.0
PATIENCE_S = 240.0
STEPS = {"steps": 400, "checkpoint_every": 5, "log_every": 5}
LAST = "step_00000400"
KILLS = 3
DRIVER = f"""
import logging, sys
from pathlib import Path
from pipeline.cluster.train import fit
from pipeline.ncsn.errors import UserError
from tests.training.tiny import make_images, make_task

logging.basicConfig(level=logging.WARNING)
try:
    fit(make_task(**{STEPS}), make_images(), Path(sys.argv[1]), workers=2, cpus_per_worker=1, use_gpu=False,
        max_failures=-1, hang_timeout_s={HANG_S}, on_event=lambda told: None)
except UserError as error:
    sys.exit(f"error: {{error}}")
"""


class Driver:
    """`fit` in a process of its own, as a stage is."""

    def __init__(self, folder: Path, code: str = DRIVER, **variables: str) -> None:
        self.folder = folder
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        self.process = psutil.Popen(
            [sys.executable, "-c", code, str(folder)], cwd=ROOT, env=environment | variables,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def until(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def on(self, steps: int = 15) -> None:
        """Wait until so many further steps are saved."""
        goal = step_of(self.folder) + steps
        self.until(lambda: step_of(self.folder) >= goal)

    def worker(self, rank: int) -> psutil.Process:
        """Rank 0 is the one that holds the writer's lock."""
        writer = int((self.folder / ".writer.lock").read_text().split()[1])
        found = {child.pid: child for child in self.named("RayTrainWorker")}
        return found[writer] if rank == 0 else next(found[pid] for pid in found if pid != writer)

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


def agent(process: psutil.Process) -> bool:
    """Ray's agents, which do nothing here, try for 60 s to tell their dead node's head that it is dead."""
    try:
        return process.name() in ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
    except psutil.NoSuchProcess:
        return True


def step_of(folder: Path) -> int:
    """The step of the newest checkpoint; 0 without one."""
    found = checkpoints(folder)
    return int(found[-1].name[5:]) if found else 0


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The bits of an undisturbed run, of one process."""
    return digest(fit(make_task(**STEPS), make_images(), tmp_path_factory.mktemp("undisturbed")))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    """Begin, or go on with, the test's run; whatever is left of it is killed after the test."""
    drivers: list[Driver] = []
    family: list[psutil.Process] = []

    def driver(reached: bool = True) -> Driver:
        drivers.append(Driver(tmp_path / "run"))
        if reached:
            drivers[-1].on()
        family.extend(drivers[-1].process.children(recursive=True))
        return drivers[-1]

    yield driver
    for process in [*(made.process for made in drivers), *family]:
        if process.is_running():
            process.kill()
    for made in drivers:
        made.process.wait()
        made.process.stderr.close()


def test_workers_that_are_killed_or_hang_are_replaced(start: Callable[..., Driver], expected: dict[str, str]) -> None:
    seed = int(os.environ.get("FAULTS_SEED", time.time_ns() % 10**6))
    sys.stdout.write(f"FAULTS_SEED={seed}\n")
    chosen, driver = random.Random(seed), start()
    more = [chosen.randrange(2) for _ in range(int(os.environ.get("FAULTS_RAY_KILLS", KILLS)))]
    for rank in (0, 1, *more):
        driver.worker(rank).kill()
        time.sleep(chosen.uniform(0.0, 0.5))
        driver.on()
    driver.worker(1).send_signal(signal.SIGSTOP)
    driver.on()
    code, told = driver.end()
    assert code == 0, told
    assert digest(driver.folder / LAST) == expected


def test_what_happens_to_the_driver_costs_one_interval_and_leaves_nobody(
    start: Callable[..., Driver], expected: dict[str, str]
) -> None:
    driver = start()
    second = Driver(driver.folder)
    code, told = second.end()
    assert code == 1
    assert f"process {driver.process.pid} on " in told and "is the driver of the training in" in told
    driver.process.terminate()
    code, told = driver.end()
    assert code == EXIT_CODE and "stopped by SIGTERM and saved" in told
    for victim in ("driver", "raylet"):
        driver = start()
        family, reached = driver.process.children(recursive=True), step_of(driver.folder)
        (driver.process if victim == "driver" else driver.named("raylet/raylet")[0]).kill()
        codes = {"driver": -signal.SIGKILL, "raylet": 1}  # without its node it ends by itself, after a minute
        assert driver.end()[0] == codes[victim]
        left = psutil.wait_procs(family, timeout=30)[1]
        assert not [process for process in left if not agent(process)], f"a process outlived the {victim}"
        assert not psutil.wait_procs(left, timeout=60)[1], f"an agent of Ray's outlived the {victim}"
        assert step_of(driver.folder) >= reached, "a finished checkpoint was lost"
    code, told = start(reached=False).end()  # workers that lost their node may have come to the last step
    assert code == 0, told
    assert digest(driver.folder / LAST) == expected


def test_dvc_killed_leaves_no_trainer_and_a_second_one_is_refused(tmp_path: Path, expected: dict[str, str]) -> None:
    """As `dvc repro` runs a stage: it ends with the process that started it."""
    stage = f"from pipeline.entry import die_with_parent\ndie_with_parent()\n{DRIVER}\nPath('out').touch()\n"
    (tmp_path / "stage.py").write_text(stage)
    (tmp_path / "dvc.yaml").write_text("stages: {train: {cmd: python stage.py run, outs: [out]}}\n")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"PATH": path, "PYTHONPATH": str(ROOT)}
    here = {"cwd": tmp_path, "env": environment, "text": True}

    def repro() -> "subprocess.CompletedProcess[str]":
        told: subprocess.CompletedProcess[str] = subprocess.run(
            ["dvc", "repro"], capture_output=True, timeout=PATIENCE_S, **here
        )  # type: ignore[call-overload]
        return told

    subprocess.run(["dvc", "init", "--no-scm", "-q"], check=True, **here)  # type: ignore[call-overload]
    first = psutil.Popen(["dvc", "repro"], start_new_session=True, **here)
    family: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + PATIENCE_S
        while step_of(tmp_path / "run") < 15:
            assert first.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        family = first.children(recursive=True)
        second = repro()
        assert second.returncode and "blocked by" in second.stderr and str(first.pid) in second.stderr
        first.kill()
        first.wait()
        assert not psutil.wait_procs(family, timeout=90)[1], "a process outlived dvc"
    finally:
        for process in [first, *family]:
            if process.is_running():
                process.kill()
    last = repro()
    assert last.returncode == 0, last.stderr
    assert digest(tmp_path / "run" / LAST) == expected
