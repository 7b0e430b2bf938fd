"""Ray Train's trainer: as many workers as there is room for, always a number that divides the micro-batches.

Where a node leaves it shrinks, where one joins it grows: Ray Train restarts the workers in another number.
What their bits follow from (`train.micro_batches`) stays.
"""

import asyncio
import os
import shutil
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from ray.runtime_context import RuntimeContext
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.scaling_policy import ElasticScalingPolicy, FixedScalingPolicy
from ray.train.v2._internal.execution.worker_group import WorkerGroup
from ray.train.v2.api.config import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.api.result import Result
from ray.train.v2.torch.torch_trainer import TorchTrainer

from pipeline.cluster.connect import end_quietly, is_remote
from pipeline.environment import cores

Config = TypeVar("Config", bound=Mapping[str, object])
Found = TypeVar("Found")

GROW_S = 10.0
"""How often a run that is short of workers looks for room: growing costs a restart."""
START_S = "15"
"""How long workers may take to start: Ray by itself waits 60 s for those of a dead node."""


class Quietly(Generic[Config, Found]):
    """A worker's function, called with nothing printed of how Ray ends the worker: see `end_quietly`."""

    def __init__(self, work: Callable[[Config], Found]) -> None:
        self._work = work

    def __call__(self, config: Config) -> Found:
        end_quietly()
        return self._work(config)


def run_workers(
    work: Callable[[Config], Found],
    config: Config,
    scaling: ScalingConfig,
    *,
    micro_batches: int,
    name: str,
    records: Path,
    environment: Mapping[str, Mapping[str, str]],
    max_failures: int = 0,
) -> Found:
    """Call a function on each worker of a torch.distributed group.

    Args:
        work: called with `config`.
        scaling: how many workers, and what each has: see `scaling_of`.
        micro_batches: what the number of workers divides.
        name: of this run of Ray Train.
        records: a folder for Ray's own records, deleted at the end.
        environment: Ray's runtime_env of each worker.
        max_failures: how often killed workers are replaced; -1: always.

    Returns:
        What the first worker returned.

    Raises:
        ray.train.TrainingFailedError: `work` raised, or workers died more than `max_failures` times.
    """
    failures = FailureConfig(max_failures=max_failures)
    run = RunConfig(name=name, storage_path=str(records), failure_config=failures, worker_runtime_env=dict(environment))
    trainer = DividingTrainer(
        Quietly(work), train_loop_config=dict(config), scaling=scaling, run_config=run, micro_batches=micro_batches
    )
    try:
        # Annotated with the result of Ray Train's version 1.
        return cast(Found, cast(Result, trainer.fit()).return_value)
    finally:
        shutil.rmtree(records, ignore_errors=True)


def scaling_of(workers: int, most: int | None, *, cpus_per_worker: int, gpu: bool) -> ScalingConfig:
    """A fixed number of workers, or where `most` is larger a range, each with its CPUs and maybe a GPU."""
    each = {"CPU": float(cpus_per_worker), **({"GPU": 1.0} if gpu else {})}
    if most is None or most <= workers:
        return ScalingConfig(num_workers=workers, use_gpu=gpu, resources_per_worker=each)
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", START_S)
    return ScalingConfig(
        num_workers=(workers, most),
        use_gpu=gpu,
        resources_per_worker=each,
        elastic_resize_monitor_interval_s=GROW_S,
    )


def at_once(workers: int, most: int | None, cpus_per_worker: int) -> int:
    """How many workers to have room for at the start: on this machine alone, no node will ever join."""
    if most is None or is_remote():
        return workers
    return max(workers, min(most, cores() // cpus_per_worker))


def divisor(most: int, micro_batches: int) -> int:
    """The largest number of workers up to `most` that divides the micro-batches; 0 for none."""
    return max((count for count in range(1, most + 1) if micro_batches % count == 0), default=0)


class DividingPolicy(ElasticScalingPolicy):
    """Ray's elastic policy, restricted to numbers of workers that divide the micro-batches."""

    def __init__(self, scaling: ScalingConfig, micro_batches: int) -> None:
        super().__init__(scaling)
        self._micro_batches = micro_batches

    def _count_possible_workers(self, reserved_resources: Any) -> int:
        return divisor(super()._count_possible_workers(reserved_resources), self._micro_batches)


class LocalPolicy(FixedScalingPolicy):
    """Ray's fixed number of workers, of which no autoscaler is told: on this machine no node can be added."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Nothing: Ray would start a process for requests to the autoscaler."""

    def _maybe_send_resource_request(self) -> None:
        """Nothing either."""


class LocalGroup(WorkerGroup):
    """Ray's group of workers, each in the environment that it is given and no more.

    Ray would add its own settings, which processes of this machine inherit; a process whose environment is changed is
    started twice.
    """

    @staticmethod
    def _get_worker_runtime_env(custom_runtime_env: Any) -> Any:
        return custom_runtime_env


class LocalController(TrainController):
    """Ray's controller of a run, in the process of the driver, which has imported all that it needs.

    It is no actor, so that it names none to its workers, which would ask it for checkpoints of Ray's.
    """

    worker_group_cls = LocalGroup

    def result(self) -> Any:
        """The result, when the run has ended."""
        named: Any = RuntimeContext
        own, named.current_actor = named.current_actor, None
        try:
            asyncio.run(cast(Coroutine[Any, Any, None], self.run()))  # type: ignore[no-untyped-call]
        finally:
            named.current_actor = own
        return self.get_result()


class DividingTrainer(TorchTrainer):
    """A TorchTrainer whose number of workers divides the micro-batches, without processes that are not needed.

    Each of those imports torch and pandas. DatasetsCallback serves Ray Data, which is not used;
    PlacementGroupCleanerCallback frees the workers of a controller that died, which a Ray that ends with this
    process does by itself. On this machine the controller runs in this process, which has imported all that it
    needs. The methods are Ray's own: tests/cluster/test_private_ray.py names what an upgrade breaks.
    """

    def __init__(self, *arguments: Any, scaling: ScalingConfig, micro_batches: int, **named: Any) -> None:
        self._scaling, self._micro_batches = scaling, micro_batches
        super().__init__(*arguments, scaling_config=scaling, **named)

    def _initialize_and_run_controller(self, **named: Any) -> Any:
        if self._scaling.elasticity_enabled:
            named["scaling_policy"] = DividingPolicy(self._scaling, self._micro_batches)
        elif not is_remote():
            named["scaling_policy"] = LocalPolicy(self._scaling)
        if is_remote():
            return super()._initialize_and_run_controller(**named)
        return LocalController(**named).result()

    def _create_default_callbacks(self) -> list[Any]:
        idle = {"DatasetsCallback"} if is_remote() else {"DatasetsCallback", "PlacementGroupCleanerCallback"}
        made = super()._create_default_callbacks()
        return [callback for callback in made if type(callback).__name__ not in idle]
