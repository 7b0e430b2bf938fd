"""As many workers as a cluster has room for: it shrinks when a node leaves, and grows when one joins.

Ray Train restarts the workers in another number; what its bits follow from (`train.microshards`) stays.
"""

import os
from typing import Any

import ray.train
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.scaling_policy import ElasticScalingPolicy

from pipeline.cluster.connect import is_remote

GROW_S = 10.0
"""How often a run that is short of workers looks for room: a growth costs a restart."""
START_S = "15"
"""How long workers may take to start: Ray by itself waits 60 s for those of a dead node."""


class DividingPolicy(ElasticScalingPolicy):
    """Ray's elastic policy, restricted to numbers of workers that divide the microshards."""

    def __init__(self, scaling: ray.train.ScalingConfig, microshards: int) -> None:
        super().__init__(scaling)  # type: ignore[arg-type]  # mypy sees version 1's
        self._microshards = microshards

    def _count_possible_workers(self, reserved_resources: Any) -> int:
        return divisor(super()._count_possible_workers(reserved_resources), self._microshards)


def divisor(most: int, microshards: int) -> int:
    """The largest number of workers up to `most` that divides the microshards; 0 for none."""
    return max((count for count in range(1, most + 1) if microshards % count == 0), default=0)


def at_once(workers: int, most: int | None, cpus_per_worker: int) -> int:
    """How many workers to have room for at the beginning: on this machine alone, no node will ever join."""
    if most is None or is_remote():
        return workers
    have = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(workers, min(most, have // cpus_per_worker))


def scaled(workers: int, most: int | None) -> dict[str, Any]:
    """ScalingConfig's arguments for a fixed number of workers, or for a range."""
    if most is None or most <= workers:
        return {"num_workers": workers}
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", START_S)
    return {"num_workers": (workers, most), "elastic_resize_monitor_interval_s": GROW_S}


class ElasticTrainer(TorchTrainer):
    """A TorchTrainer whose number of workers divides the microshards, whatever the nodes that come and go."""

    def __init__(self, *arguments: Any, microshards: int, **named: Any) -> None:
        self._microshards = microshards
        super().__init__(*arguments, **named)

    def _initialize_and_run_controller(self, **named: Any) -> Any:
        scaling = self.scaling_config
        if scaling.elasticity_enabled:  # type: ignore[attr-defined]  # mypy sees version 1's
            named["scaling_policy"] = DividingPolicy(scaling, self._microshards)
        return super()._initialize_and_run_controller(**named)  # type: ignore[misc]  # mypy sees version 1's


class LeanTrainer(ElasticTrainer):
    """The same without helpers that serve nothing here, each a process that imports torch and pandas.

    DatasetsCallback hands out Ray Data, which is not used; PlacementGroupCleanerCallback frees workers of a
    controller that died, which a Ray that ends with this process does by itself.
    """

    def _create_default_callbacks(self) -> list[Any]:
        idle = {"DatasetsCallback"} if is_remote() else {"DatasetsCallback", "PlacementGroupCleanerCallback"}
        made = super()._create_default_callbacks()  # type: ignore[misc]  # mypy sees version 1's
        return [callback for callback in made if type(callback).__name__ not in idle]
