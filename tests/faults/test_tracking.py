"""A real tracking server dies and comes back under a training: no step waits, no point is lost or doubled."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from pipeline.training.fit import fit
from tests.training.tiny import digest, make_images, make_task

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
STEPS = {"steps": 160, "checkpoint_every": 20, "log_every": 1}
STEP_S = 0.05
STAGE = f"""
import json, logging, sys, time
from pathlib import Path
import torch
from pipeline import params, tracking
from pipeline.training import fit as runner
from pipeline.training.log import Follower
from tests.training.tiny import make_images, make_task

logging.basicConfig(level=logging.WARNING)
torch.set_num_threads(1)
slowest = 0.0
with tracking.stage("train", "ncsn", params.load()) as run:
    def tell(progress):
        global slowest
        begun = time.perf_counter()
        run.log_metrics({{"loss": progress.loss}}, progress.step)
        slowest = max(slowest, time.perf_counter() - begun)
    follower = Follower(Path("run"), tell, 10**9)
    append = runner.log.append
    def told(folder, progress):
        append(folder, progress)
        follower.drain()
        time.sleep(0.02)
    runner.log.append = told
    runner.fit(make_task(**{STEPS}), make_images(), Path("run"))
    follower.drain()
Path("slowest").write_text(str(slowest))
"""


class Server:
    """MLflow's own, on one port and one database however often it is started."""

    def __init__(self, place: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.place, self.uri = place, f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = {
            "backend-store-uri": f"sqlite:///{self.place}/server.db",
            "default-artifact-root": str(self.place / "files"),
            "host": "127.0.0.1", "port": str(self.port), "workers": "1",
        }  # fmt: skip
        arguments = [text for key, value in options.items() for text in (f"--{key}", value)]
        with (self.place / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *arguments],
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        while not self.answers():
            assert self.process.poll() is None
            time.sleep(0.1)

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.kill()


def reached(place: Path) -> int:
    """Lines of the run's log."""
    log = place / "run" / "progress.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def test_a_server_that_dies_and_comes_back_under_a_training_killed_on_the_way(server: Server, tmp_path: Path) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": server.uri}

    def stage() -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", STAGE]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, stderr=subprocess.PIPE)

    def until(child: "subprocess.Popen[str]", lines: int) -> None:
        while reached(tmp_path) < lines:
            assert child.poll() is None, child.communicate()[1]
            time.sleep(0.01)

    server.start()
    first = stage()
    until(first, 30)
    server.kill()
    until(first, 60)
    first.kill()
    first.communicate()
    server.start()
    second = stage()
    until(second, reached(tmp_path) + 30)
    server.kill()
    told = second.communicate(timeout=120)[1]
    assert second.returncode == 0, told
    assert "is delivered by the next stage, or by `python -m pipeline.tracking ship`" in told
    assert float((tmp_path / "slowest").read_text()) < STEP_S

    server.start()
    ship = [sys.executable, "-m", "pipeline.tracking", "ship"]
    subprocess.run(ship, cwd=tmp_path, env=environment, check=True, timeout=120)
    server.kill()
    client = MlflowClient(f"sqlite:///{tmp_path}/server.db")
    experiments = [found.experiment_id for found in client.search_experiments()]
    (kept,) = client.search_runs(experiments, "tags.`pipeline.level` = 'stage'")
    history = client.get_metric_history(kept.info.run_id, "loss")
    rows = [json.loads(line) for line in (tmp_path / "run/progress.jsonl").read_text().splitlines()]
    losses = {row["step"]: row["loss"] for row in rows}
    assert sorted((m.step, m.value) for m in history) == sorted(losses.items())
    assert kept.info.status == "FINISHED" and len(losses) == STEPS["steps"]
    untracked = fit(make_task(**STEPS), make_images(), tmp_path / "untracked")
    assert digest(untracked) == digest(tmp_path / "run" / untracked.name)
