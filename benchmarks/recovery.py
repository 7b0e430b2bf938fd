"""How long a training of two workers stands still when one is killed: here, and on plain Ray Train.

    python -m benchmarks.recovery --kills 20 --json recovery.json

From SIGKILL to the end of the first new optimiser step; the workers in turn, at random moments, the two ways
in turn, in two blocks each. Same network, batch and threads, checkpoints every 10 steps, a poll of 0.2 s.
With --json, what earlier runs on this machine have found is counted in.
"""

import argparse
import contextlib
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.machine import describe

POLL_S = 0.005
BETWEEN = 20
"""Steps from a recovery to the next kill, two checkpoints."""
COMMON = """
import os, sys
from pathlib import Path
os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.2"
os.environ["RAY_worker_niceness"] = "0"  # Ray by itself yields to all that runs beside it
import dataclasses
from benchmarks.determinism import IMAGES, task
task = dataclasses.replace(task("ncsnv2"), checkpoint_every=10, log_every=1)
folder = Path(sys.argv[1])
"""
HERE = f"""{COMMON}
from pipeline.cluster.train import fit
fit(task, IMAGES, folder, workers=2, cpus_per_worker=1, use_gpu=False, max_failures=-1,
    on_event=lambda told: None)
"""
PLAIN = f"""{COMMON}
import tempfile
os.environ["RAY_AUTH_MODE"] = "disabled"  # else Ray would leave a token in the home folder
import ray, ray.train, torch
from ray.train.torch import TorchTrainer, prepare_model

def work(config):
    from pipeline.ncsn.losses import denoising_score_matching
    from pipeline.training.batches import micro_batches
    from pipeline.training.state import fresh
    state, first = fresh(task), 0
    network, rank = prepare_model(state.network), ray.train.get_context().get_world_rank()
    if checkpoint := ray.train.get_checkpoint():
        with checkpoint.as_directory() as place:
            saved = torch.load(Path(place) / "state.pt")
        state.network.load_state_dict(saved["network"])
        state.optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
    for step in range(first, task.steps):
        part = micro_batches(task, IMAGES, step, range(rank, rank + 1), torch.device("cpu"))[0]
        loss = denoising_score_matching(network, part.x, part.sigma, part.noise).mean()
        state.optimizer.zero_grad()
        loss.backward()
        state.optimizer.step()
        if rank == 0:
            with (folder / "progress.jsonl").open("a") as file:
                file.write(f"{{step}}\\n")
        if (step + 1) % 10 == 0:
            with tempfile.TemporaryDirectory() as place:
                checkpoint = None
                if rank == 0:
                    saved = {{key: getattr(state, key).state_dict() for key in ("network", "optimizer")}}
                    torch.save(saved | {{"step": step + 1}}, Path(place) / "state.pt")
                    checkpoint = ray.train.Checkpoint.from_directory(place)
                ray.train.report({{"loss": loss.item()}}, checkpoint=checkpoint)

folder.mkdir()
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
TorchTrainer(
    work,
    scaling_config=ray.train.ScalingConfig(num_workers=2),
    run_config=ray.train.RunConfig(
        name="plain", storage_path=str(folder), failure_config=ray.train.FailureConfig(max_failures=-1),
        worker_runtime_env={{"env_vars": {{"OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}}}},
    ),
).fit()
"""
WAYS = {"here": HERE, "plain Ray Train": PLAIN}


def block(code: str, folder: Path, kills: int, chosen: random.Random) -> list[float]:
    """Seconds of each recovery in one run."""
    driver = psutil.Popen([sys.executable, "-c", code, str(folder)], stderr=sys.stderr)
    steps, found = folder / "progress.jsonl", []
    try:
        for number in range(kills):
            _grown(steps, lines(steps) + BETWEEN, driver)
            time.sleep(chosen.uniform(0.0, 0.3))
            workers(driver)[number % 2].kill()
            start = time.perf_counter()
            time.sleep(0.1)  # a step that was as good as done may still be told
            _grown(steps, lines(steps) + 1, driver)
            found.append(time.perf_counter() - start)
    finally:
        family = [driver, *driver.children(recursive=True)]
        for process in family:
            if process.is_running():
                process.kill()
        driver.wait()
    return found


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def workers(driver: psutil.Popen) -> list[psutil.Process]:
    found = []
    for process in driver.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "RayTrainWorker" in " ".join(process.cmdline()):
                found.append(process)
    return found


def _grown(path: Path, goal: int, driver: psutil.Popen) -> None:
    while lines(path) < goal:
        if driver.poll() is not None:
            sys.exit(f"error: the training ended with {driver.returncode}")
        time.sleep(POLL_S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each way")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    if given.json and given.json.exists():
        found = json.loads(given.json.read_text())
    chosen = random.Random(0)
    with tempfile.TemporaryDirectory() as place:
        for half in range(2):
            for way, code in WAYS.items():
                kills = (given.kills + half) // 2
                found[way] += block(code, Path(place) / f"{way} {half}", kills, chosen)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    sys.stdout.write(f"{describe()}\n\n| way | kills | p50, s | p95, s |\n| :-- | --: | --: | --: |\n")
    for way, seconds in found.items():
        tail = statistics.quantiles(seconds, n=20, method="inclusive")[-1]
        sys.stdout.write(f"| {way} | {len(seconds)} | {statistics.median(seconds):.1f} | {tail:.1f} |\n")


if __name__ == "__main__":
    main()
