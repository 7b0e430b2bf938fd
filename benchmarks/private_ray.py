"""Ray's private API, with and without: what each use in docs/private_ray.md saves, side by side.

    python -m benchmarks.private_ray --repeats 5

`agent`: from no Ray to the end of a first task in an environment of its own, with Ray's function that looks
for `ray[default]` patched or not. `callbacks`: a run of two Ray Train workers that do nothing, without Ray's
helper processes or with them. Both: seconds, and of this process with its children CPU seconds and peak
memory. Each way runs in a process of its own, in turns, so that other load falls on both. `policy` starts
nothing: it counts workers for clusters of 1 to 8 CPUs.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import psutil

from benchmarks.machine import describe

WAYS = ("private", "public")


def agent(way: str) -> dict[str, float]:
    """Connect to a local Ray, and wait for a task as the stages start them."""
    import ray

    from pipeline.cluster.connect import connect, worker_environment

    missing = {"private": lambda: ImportError("not used"), "public": lambda: None}[way]
    patched = mock.patch("ray._private.utils.get_dashboard_dependency_error", missing)
    with contextlib.ExitStack() as stack, _watched() as cost, patched:
        stack.enter_context(connect(workers=2, cpus_per_worker=1, use_gpu=False))
        ray.get(ray.remote(_nothing).options(runtime_env=worker_environment(1)).remote())
    return cost


def callbacks(way: str) -> dict[str, float]:
    """Two workers that do nothing, on a Ray that is connected."""
    import ray.train
    from ray.train.torch import TorchTrainer

    from pipeline.cluster.connect import connect, worker_environment

    class Lean(TorchTrainer):
        def _create_default_callbacks(self) -> list[Any]:
            idle = {"DatasetsCallback", "PlacementGroupCleanerCallback"}
            made = super()._create_default_callbacks()  # type: ignore[misc]
            return [each for each in made if type(each).__name__ not in idle]

    with tempfile.TemporaryDirectory() as folder, connect(workers=2, cpus_per_worker=1, use_gpu=False):
        trainer = (Lean if way == "private" else TorchTrainer)(
            _nothing,
            scaling_config=ray.train.ScalingConfig(num_workers=2),
            run_config=ray.train.RunConfig(
                name="nothing", storage_path=folder, worker_runtime_env=worker_environment(1)
            ),
        )
        with _watched() as cost:
            trainer.fit()
    return cost


def _nothing() -> None:
    return None


@contextlib.contextmanager
def _watched() -> Iterator[dict[str, float]]:
    """Seconds of the block; CPU seconds and peak memory (PSS) of this process with all its children."""
    cost: dict[str, float] = {}
    over, peak, cpu = threading.Event(), [0.0], dict[int, float]()

    def watch() -> None:
        while not over.wait(0.2):
            peak[0] = max(peak[0], _memory_and_cpu(cpu))

    begun = dict[int, float]()
    _memory_and_cpu(begun)
    thread, start = threading.Thread(target=watch), time.perf_counter()
    thread.start()
    yield cost
    _memory_and_cpu(cpu)
    cost["seconds"] = time.perf_counter() - start
    over.set()
    thread.join()
    cost["cpu_s"] = sum(cpu.values()) - sum(begun.values())
    cost["peak_mb"] = peak[0] / 1e6


def _memory_and_cpu(cpu: dict[int, float]) -> float:
    """Memory now; `cpu` takes the CPU seconds of each process so far."""
    total = 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
            times = process.cpu_times()
            cpu[process.pid] = times.user + times.system
    return total


def policy(micro_batches: int = 4) -> str:
    """Workers that a run of 1 to 8 gets, by the CPUs that are free: Ray's policy next to ours."""
    from ray.train import ScalingConfig
    from ray.train.v2._internal.execution.scaling_policy import ElasticScalingPolicy

    from pipeline.cluster.trainer import DividingPolicy

    scaling = ScalingConfig(num_workers=(1, 8), resources_per_worker={"CPU": 1.0})
    rows = ["| free CPUs | Ray's policy | DividingPolicy |", "| --: | --: | --: |"]
    for cpus in range(1, 9):
        with mock.patch.object(ElasticScalingPolicy, "_count_possible_workers", lambda *_, n=cpus: n):
            ours = DividingPolicy(scaling, micro_batches)._count_possible_workers([])
        rows.append(f"| {cpus} | {cpus} | {ours} |")
    return "\n".join(rows)


MEASURED = {"agent": agent, "callbacks": callbacks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=[*MEASURED, "policy"], default=[*MEASURED, "policy"])
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        sys.stdout.write(json.dumps(MEASURED[given.child[0]](given.child[1])))
        return
    import ray

    sys.stdout.write(f"{describe()}, Ray {ray.__version__}\n")
    for what in (name for name in given.only if name in MEASURED):
        found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(given.repeats):
            for way in WAYS:
                command = [sys.executable, "-m", "benchmarks.private_ray", "--child", what, way]
                own = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=own)
                found[way].append(json.loads(done.stdout.splitlines()[-1]))
        for way, runs in found.items():
            cells = [f"{key} {statistics.median(run[key] for run in runs):.1f}" for key in runs[0]]
            spread = [f"{run['seconds']:.1f}" for run in runs]
            sys.stdout.write(f"{what}, {way}: {', '.join(cells)} (seconds: {', '.join(sorted(spread))})\n")
        sys.stdout.flush()
    if "policy" in given.only:
        sys.stdout.write(policy() + "\n")


if __name__ == "__main__":
    main()
