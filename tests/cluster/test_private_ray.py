"""Ray's private API, which an upgrade may change: each use with what breaks. See docs/private_ray.md."""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import ray

from pipeline.cluster import connect

ROOT = Path(__file__).parents[2]
POLICY = "ray.train.v2._internal.execution.scaling_policy.ElasticScalingPolicy"
TRAINER = "ray.train.v2.api.data_parallel_trainer.DataParallelTrainer"
FIXED = "ray.train.v2._internal.execution.scaling_policy.FixedScalingPolicy"
CONTROLLER = "ray.train.v2._internal.execution.controller.TrainController"
GROUP = "ray.train.v2._internal.execution.worker_group.WorkerGroup"
NODE = "ray._private.node.Node"
USES = {
    f"{POLICY}.__init__": (
        "(self, scaling_config)",
        "the number of workers would not divide the micro-batches (DividingPolicy)",
    ),
    f"{POLICY}._count_possible_workers": (
        "(self, reserved_resources)",
        "the number of workers would not divide the micro-batches (DividingPolicy)",
    ),
    f"{TRAINER}._initialize_and_run_controller": (
        "(self, **controller_init_kwargs)",
        "Ray's own elastic policy would be used instead of DividingPolicy",
    ),
    f"{TRAINER}._create_default_callbacks": (
        "(self)",
        "helper processes that serve nothing here would start with every training (DividingTrainer)",
    ),
    f"{FIXED}.after_controller_start": (
        "(self, train_run_context)",
        "a process for requests to an autoscaler would start with every training (LocalPolicy)",
    ),
    f"{FIXED}._maybe_send_resource_request": (
        "(self)",
        "a process for requests to an autoscaler would start with every training (LocalPolicy)",
    ),
    f"{CONTROLLER}.run": ("(self)", "no training would run on this machine (LocalController)"),
    f"{CONTROLLER}.get_result": ("(self)", "no training would end on this machine (LocalController)"),
    f"{GROUP}._get_worker_runtime_env": (
        "(custom_runtime_env)",
        "each worker of this machine would be started twice, in an environment of its own (LocalGroup)",
    ),
    f"{NODE}.start_api_server": (
        "(self, include_dashboard, raise_on_failure)",
        "a dashboard would start with every local Ray (connect._lean)",
    ),
    f"{NODE}.start_monitor": ("(self)", "an autoscaler would start with every local Ray (connect._lean)"),
}


def told(name: str, what: str) -> str:
    return (
        f"Ray {ray.__version__}: {name} {what}. Without it {USES[name][1]}. "
        "Adapt pipeline/cluster/trainer.py, or remove the use by docs/private_ray.md."
    )


def found(name: str) -> Any:
    """What a dotted name stands for; an AssertionError names what is gone."""
    module, attributes = name, list[str]()
    while module:
        try:
            thing = importlib.import_module(module)
            break
        except ImportError:
            module, _, attribute = module.rpartition(".")
            attributes.insert(0, attribute)
    for attribute in attributes:
        assert hasattr(thing, attribute), told(name, "is gone")
        thing = getattr(thing, attribute)
    return thing


def signature(name: str) -> str:
    parameters = inspect.signature(found(name)).parameters.values()
    return f"({', '.join(str(one.replace(annotation=inspect.Parameter.empty)) for one in parameters)})"


@pytest.mark.parametrize("name", USES)
def test_ray_still_has_what_is_used_and_calls_it_with_the_same_arguments(name: str) -> None:
    assert signature(name) == USES[name][0], told(name, f"takes {signature(name)}")


@pytest.mark.parametrize(
    ("name", "caller"),
    [
        (f"{POLICY}._count_possible_workers", POLICY),
        (f"{TRAINER}._initialize_and_run_controller", f"{TRAINER}.fit"),
        (f"{TRAINER}._create_default_callbacks", f"{TRAINER}.fit"),
        (f"{FIXED}._maybe_send_resource_request", FIXED),
        (f"{CONTROLLER}.run", f"{TRAINER}._initialize_and_run_controller"),
        (f"{CONTROLLER}.get_result", f"{TRAINER}._initialize_and_run_controller"),
        (f"{GROUP}._get_worker_runtime_env", f"{GROUP}._create_workers"),
        (f"{NODE}.start_api_server", f"{NODE}.start_head_processes"),
        (f"{NODE}.start_monitor", f"{NODE}.start_head_processes"),
    ],
)
def test_ray_still_calls_it(name: str, caller: str) -> None:
    called = re.search(rf"{name.rpartition('.')[2]}(\.remote)?\(", inspect.getsource(found(caller)))
    assert called, told(name, f"is not called by {caller} any more")


@pytest.mark.parametrize(
    ("name", "place", "words"),
    [
        (
            f"{TRAINER}._create_default_callbacks",
            f"{TRAINER}._create_default_callbacks",
            ("DatasetsCallback(", "PlacementGroupCleanerCallback("),
        ),
        (f"{TRAINER}._initialize_and_run_controller", f"{TRAINER}.fit", ("scaling_policy=",)),
        (f"{CONTROLLER}.run", f"{GROUP}._init_train_context_on_workers", ("=ray.get_runtime_context().current_actor",)),
        (f"{CONTROLLER}.run", CONTROLLER, ("worker_group_cls = WorkerGroup", "= self.worker_group_cls")),
    ],
)
def test_what_is_replaced_still_has_its_name(name: str, place: str, words: tuple[str, ...]) -> None:
    """The helpers that are left out, and the policy that is handed to the controller."""
    gone = [word for word in words if word not in inspect.getsource(found(place))]
    assert not gone, told(name, f"knows no {gone}")


def test_the_constant_still_decides_on_what_address_a_local_ray_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import ray_constants, services, worker

    monkeypatch.setattr(worker, "_global_node", None)
    before = ray_constants.ENABLE_RAY_CLUSTER
    with connect._loopback():
        assert services.get_node_ip_address() == "127.0.0.1", "it would listen on every interface (connect._loopback)"
    assert before == ray_constants.ENABLE_RAY_CLUSTER
    variable = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    assert connect.LOCAL_SETTINGS[variable] == "0", "its processes would find another address than this one"


def test_the_message_of_a_change_names_the_use_and_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{POLICY}._count_possible_workers"
    monkeypatch.delattr(found(POLICY), "_count_possible_workers")
    with pytest.raises(AssertionError) as caught:
        found(name)
    for part in (f"Ray {ray.__version__}", name, "is gone", "DividingPolicy", "docs/private_ray.md"):
        assert part in str(caught.value)


def test_no_other_file_uses_rays_private_api() -> None:
    """An import from a module that begins with an underscore, or a method of Ray's of that kind."""
    methods = {name.rpartition(".")[2] for name in USES} - {"__init__"}
    names = {name for name in methods if name.startswith("_")}
    private = re.compile(rf"ray(\.\w+)*\._[a-z]\w*|\b({'|'.join(names)})\b")
    files = [path for path in (ROOT / "pipeline").rglob("*.py") if private.search(path.read_text())]
    places = {path.relative_to(ROOT).as_posix() for path in files}
    listed = {"pipeline/cluster/connect.py", "pipeline/cluster/trainer.py"}
    assert places == listed, f"list the use in docs/private_ray.md and above: {sorted(places)}"
