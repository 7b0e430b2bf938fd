"""Nodes leave and join a run on Ray's elastic training: it shrinks, it grows, it ends in the same bits."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster
from ruamel.yaml import YAML

from pipeline.cluster.train import EXIT_CODE
from pipeline.params.stages import Compute
from pipeline.training.checkpoints import folder_name, save
from pipeline.training.log import Follower
from pipeline.training.loop import train
from tests.faults.test_ray import ROOT, Driver, step_of
from tests.training.tiny import digest, make_images, make_task

STEPS = {"steps": 10**6, "checkpoint_every": 20, "log_every": 10, "micro_batches": 4}
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
SOON = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 4,
}
DRIVER = f"""
import logging, sys
from pathlib import Path
from pipeline.cluster import trainer
from pipeline.cluster.train import fit
from tests.training.tiny import make_images, make_task

logging.basicConfig(level=logging.WARNING)
trainer.GROW_S = 3.0
fit(make_task(**{STEPS}), make_images(), Path(sys.argv[1]), workers=1, most_workers=3, cpus_per_worker=1,
    use_gpu=False, max_failures=-1, hang_timeout_s=10, on_event=lambda told: None)
"""


def test_a_range_of_workers_is_the_fewest_and_the_most(compute: dict[str, object]) -> None:
    read = Compute(**{**compute, "workers": [1, 4]})
    assert (read.workers, read.most_workers) == (1, 4)
    assert Compute(**{**compute, "workers": 2}).most_workers is None
    for wrong in ([4, 1], [1], [1, 2, 3], [0, 2]):
        with pytest.raises(ValueError, match="workers"):
            Compute(**{**compute, "workers": wrong})


@pytest.fixture
def compute() -> dict[str, object]:
    raw = YAML(typ="safe").load(ROOT / "params.yaml")["compute"]
    return dict(raw)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head without CPUs; this process itself stays outside of it."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    head = {**NODE, "num_cpus": 0, "_system_config": SOON}
    made = Cluster(initialize_head=True, connect=False, head_node_args=head)
    yield made
    made.shutdown()


def workers(folder: Path) -> int:
    """How many did the newest row of the log."""
    lines = list(Follower(folder, lambda _: None, 10**6).added())
    return lines[-1].workers if lines else 0


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_run_shrinks_and_grows_with_its_nodes(cluster: Cluster, tmp_path: Path) -> None:
    nodes = [cluster.add_node(**NODE) for _ in range(3)]
    address = {"RAY_ADDRESS": cluster.address, "RAY_AUTH_MODE": "disabled"}
    driver = Driver(tmp_path / "run", DRIVER, **address)
    try:
        seen = []
        for change in ("", "leaves", "joins"):
            if change == "leaves":
                for node in nodes[:2]:
                    cluster.remove_node(node, allow_graceful=False)
            elif change == "joins":
                cluster.add_node(**NODE)
            wanted = 1 if change == "leaves" else 2  # of 3, the third divides no 4 micro-batches
            driver.until(lambda: workers(tmp_path / "run") == wanted)  # noqa: B023
            driver.on(20)
            seen.append(workers(tmp_path / "run"))
        driver.process.terminate()
        code, told = driver.end()
    finally:
        if driver.process.is_running():
            driver.process.kill()
    assert code == EXIT_CODE, told
    assert seen == [2, 1, 2]
    stopped, task = step_of(tmp_path / "run"), make_task(**STEPS)
    for event in train(task, make_images()):
        if event.step == stopped:
            save(tmp_path / folder_name(stopped), event.state)
            break
    assert digest(tmp_path / folder_name(stopped)) == digest(tmp_path / "run" / folder_name(stopped))
