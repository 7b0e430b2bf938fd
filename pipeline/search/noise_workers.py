"""Workers of a `tune_noise` trial: a Ray Train run of several processes for each rung.

The trial's own process reserves nothing, Ray Train reserves the workers, and only as many trials run at a
time as workers fit: none holds what another one waits for. Training is the same on any number of workers.
"""

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import ray
import torch.distributed as dist

from pipeline.cluster.connect import cluster_resources, connect, worker_environment
from pipeline.cluster.trainer import run_workers, scaling_of
from pipeline.generate.draw import single_threaded
from pipeline.ncsn.errors import UserError
from pipeline.search import RungMetrics
from pipeline.search.log_normal import NoiseRange
from pipeline.search.noise_trial import NoiseSetup, Segment, trained
from pipeline.training.checkpoints import folder_name

HELD = {"cpu": 0.0, "memory": 1.0}
"""What Ray reserves for the trial's own process, which waits: a byte, since it must be something."""

MORE = {"CPU": "raise compute.workers", "GPU": "set compute.use_gpu to false"}


@dataclass(frozen=True)
class Team:
    """Team of workers that train a trial together."""

    workers: int
    use_gpu: bool
    storage: Path
    """For checkpoints between rungs; on a cluster a folder that every node sees."""

    def at_once(self, most: int) -> int:
        """How many trials' workers the connected Ray holds, up to `most`.

        Raises:
            UserError: not one trial's.
        """
        have = cluster_resources()
        kinds = ("CPU", "GPU") if self.use_gpu else ("CPU",)
        short = next((kind for kind in kinds if have.get(kind, 0) < self.workers), None)
        if short:
            raise UserError(
                f"compute.workers_per_trial ({self.workers}) needs as many {short}s, but Ray has "
                f"{int(have.get(short, 0))}: lower it, or {MORE[short]}."
            )
        return min(most, *(int(have[kind] // self.workers) for kind in kinds))

    def rungs(self, noise_range: NoiseRange, setup: NoiseSetup) -> Iterator[RungMetrics]:
        """What `noise_trial.trial` yields, each rung's training begun where the last one ended."""
        self.storage.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="trial-", dir=self.storage))
        shared, source = ray.put(setup), None
        try:
            for rung in setup.budget.rungs:
                target = folder / folder_name(rung)
                yield self.trained(Segment(noise_range, rung, source, target), shared)
                source = target
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def trained(self, segment: Segment, setup: "ray.ObjectRef[NoiseSetup]") -> RungMetrics:
        """`noise_trial.trained` by all workers; raises what their first one raised, under its name."""
        records = self.storage / f".ray-{uuid.uuid4().hex}"
        with connect(workers=self.workers, cpus_per_worker=1, use_gpu=self.use_gpu):
            found, raised = run_workers(
                _work,
                _Config(segment=segment, setup=[setup]),
                scaling_of(self.workers, None, cpus_per_worker=1, gpu=self.use_gpu),
                micro_batches=self.workers,
                name="rung",
                records=records,
                environment=worker_environment(1),
            )
        if raised:
            kind, reason = raised
            raise type(kind, (Exception,), {})(reason)  # named in the trial's reason as one worker's would be
        if found is None:
            raise RuntimeError("the first worker of a trial measured nothing")
        return found


class _Config(TypedDict):
    segment: Segment
    setup: list["ray.ObjectRef[NoiseSetup]"]
    """In a list, since Ray would fetch it otherwise."""


def _work(config: _Config) -> tuple[RungMetrics | None, tuple[str, str] | None]:
    """A worker: what it measured, or the name and the reason of what it raised."""
    single_threaded()
    found, raised = None, None
    try:
        found = trained(config["segment"], ray.get(config["setup"][0]))
    except Exception as error:  # a trial that fails must not be tried again
        raised = type(error).__name__, str(error)
    dist.barrier()  # see `train._work`
    return found, raised
