"""Numbers of workers that divide the micro-batches, and the private parts of Ray that this rests on."""

import inspect
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.train.v2._internal.execution.scaling_policy import ElasticScalingPolicy
from ray.train.v2.api.config import ScalingConfig
from ray.train.v2.torch.torch_trainer import TorchTrainer

from pipeline.cluster.trainer import DividingPolicy, DividingTrainer, Quietly, divisor, scaling_of
from pipeline.search import over_ray

# Ray Train makes the context of Ray Data, which warns of its own defaults.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")


def work(errors: list[BaseException]) -> str:
    """Raise the errors, the last one first, in callbacks of weak references, where Python cannot raise them."""

    class Thing:
        """Something to refer to."""

    def fail(reference: object) -> None:
        raise errors.pop()

    while errors:
        thing = Thing()
        reference = weakref.ref(thing, fail)
        del thing
        assert reference() is None
    return "worked"


class Failing:
    """The task of a trial that raises them."""

    def reports(self, settings: dict[str, float]) -> Iterator[dict[str, float]]:
        work([SystemExit(1), ValueError("ours"), SystemExit(15)])
        yield settings


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list[type[BaseException] | None]:
    """What a process prints of errors that cannot be raised."""
    found: list[type[BaseException] | None] = []

    def record(unraisable: "sys.UnraisableHookArgs") -> None:
        found.append(unraisable.exc_type)

    monkeypatch.setattr(sys, "unraisablehook", record)
    return found


def test_the_exit_of_a_worker_in_a_weak_references_callback_is_not_printed(
    printed: list[type[BaseException] | None],
) -> None:
    for _ in range(2):
        assert Quietly(work)([SystemExit(1), ValueError("ours"), SystemExit(15)]) == "worked"
    assert printed == [ValueError, ValueError], "each once, in a worker that is used again"


def test_the_exit_of_a_trials_worker_is_not_printed_either(
    printed: list[type[BaseException] | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, float]] = []
    monkeypatch.setattr(over_ray.tune, "report", told.append)
    over_ray._run({"settings": {"x": 1.0}}, Failing())  # type: ignore[arg-type]
    assert printed == [ValueError] and told == [{"x": 1.0}]


def test_as_many_workers_as_divide_the_micro_batches() -> None:
    assert [divisor(most, 4) for most in range(6)] == [0, 1, 2, 2, 4, 4]


def test_a_range_of_workers_is_elastic_and_a_fixed_number_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "1")
    fixed, range_ = (scaling_of(1, most, cpus_per_worker=2, gpu=False) for most in (None, 4))
    assert (fixed.num_workers, fixed.elasticity_enabled) == (1, False)
    assert (range_.num_workers, range_.elasticity_enabled) == ((1, 4), True)
    assert fixed.resources_per_worker == range_.resources_per_worker == {"CPU": 2.0}


@pytest.mark.parametrize(
    ("owner", "method", "arguments"),
    [
        (TorchTrainer, "_initialize_and_run_controller", {"scaling_policy"}),
        (TorchTrainer, "_create_default_callbacks", set()),
        (ElasticScalingPolicy, "_count_possible_workers", {"reserved_resources"}),
    ],
)
def test_ray_still_has_the_private_method(owner: type, method: str, arguments: set[str]) -> None:
    named = f"{owner.__name__}.{method} of Ray {ray.__version__}, which cluster/trainer.py overrides,"
    assert hasattr(owner, method), f"{named} is gone"
    has: Any = inspect.signature(getattr(owner, method)).parameters
    assert arguments <= set(has) or any(p.kind is p.VAR_KEYWORD for p in has.values()), f"{named} has changed"


def test_ray_still_makes_the_callbacks_that_are_left_out() -> None:
    scaling = ScalingConfig(num_workers=1)
    own = DividingTrainer(lambda: None, scaling=scaling, micro_batches=1)._create_default_callbacks()
    rays = TorchTrainer(lambda: None, scaling_config=scaling)._create_default_callbacks()
    left_out = {type(one).__name__ for one in rays} - {type(one).__name__ for one in own}
    expected = {"DatasetsCallback", "PlacementGroupCleanerCallback"}
    assert left_out == expected, f"Ray {ray.__version__} names its callbacks otherwise: see DividingTrainer"


def test_the_policy_takes_what_ray_counts_down_to_a_divisor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ElasticScalingPolicy, "_count_possible_workers", lambda self, reserved: 3)
    policy = DividingPolicy(ScalingConfig(num_workers=(1, 4)), 4)
    assert policy._count_possible_workers({}) == 2
