"""A stage sent to a real head that shares no file system: its outputs come back, its failures are told."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from ray.job_submission import JobSubmissionClient

from pipeline.cluster import job
from pipeline.files import read_yaml, write_yaml
from pipeline.ncsn.errors import UserError
from tests.cluster.heads import Head
from tests.cluster.heads import job as submitted

pytestmark = pytest.mark.filterwarnings("ignore:ssl=None is deprecated")  # Ray on aiohttp
ROOT = Path(__file__).resolve().parents[2]
NETWORKS = ("good", "bad", "slow", "incomplete")

DVC = """
stages:
  train:
    matrix: {network: [good, bad, slow, incomplete]}
    cmd: python -m stages.train ${item.network}
    deps: [stages/train.py, pipeline/data, artifacts/data, "artifacts/noise/${item.network}.yaml"]
    outs: ["artifacts/models/${item.network}"]
    metrics: ["artifacts/metrics/${item.network}.json"]
"""
STAGE = """
import os, sys, time
from pathlib import Path
from pipeline.cluster import job
from pipeline.cluster.connect import connect

def elsewhere():
    import pipeline
    return Path(pipeline.__file__).parent.name

network = sys.argv[1]
print("begun", flush=True)
if network == "bad":
    sys.exit("error: the loss is not finite")
if network == "slow":
    time.sleep(300)
assert not job.wanted("http://127.0.0.1:8265") and os.environ["GREETING"] == "hello"
assert not Path(".git").exists() and not Path("artifacts/secret").exists()
with connect(workers=1, cpus_per_worker=1, use_gpu="auto"):
    import ray
    found = ray.get(ray.remote(elsewhere).remote())
model = Path("artifacts/models", network)
model.mkdir(parents=True)
if network != "incomplete":
    Path("artifacts/metrics").mkdir()
    Path("artifacts/metrics", network + ".json").write_text(found + os.environ["RAY_ADDRESS"].split(":")[1])
noise = Path("artifacts/noise", network + ".yaml").read_bytes()
(model / "deep").mkdir()
(model / "deep" / "weights").write_bytes(noise + Path("artifacts/data/images.npy").read_bytes())
Path("note").write_text("noted")
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one stage, an old output of it, and things that have no business on the cluster."""
    for name in ("artifacts/data", "artifacts/noise", "artifacts/models/good", "stages", "artifacts/secret"):
        (tmp_path / name).mkdir(parents=True)
    params = read_yaml(ROOT / "params.yaml")
    params["networks"] = [*params["networks"], *NETWORKS]
    params["rows"] |= {network: network for network in NETWORKS}
    for section in ("recipes", "noise", "sampler"):
        params[section] |= dict.fromkeys(NETWORKS, params[section]["ncsn"])
    write_yaml(tmp_path / "params.yaml", params)
    (tmp_path / "pipeline").symlink_to(ROOT / "pipeline")
    (tmp_path / "dvc.yaml").write_text(DVC)
    (tmp_path / "stages" / "__init__.py").touch()
    (tmp_path / "stages" / "train.py").write_text(STAGE)
    (tmp_path / "artifacts/data/images.npy").write_bytes(bytes(range(256)) * 10_000)
    (tmp_path / "artifacts/models/good/old").write_text("of the last run")
    for network in NETWORKS:
        (tmp_path / f"artifacts/noise/{network}.yaml").write_text(network)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    return tmp_path


def test_outputs_come_back_whole_and_the_log_is_heard(project: Path, head: Head) -> None:
    log: list[str] = []
    storage = project / "storage"
    settings = {"environment": {"GREETING": "hello"}, "returns": ["note", "not written"]}
    job.submit("train", "good", head.dashboard, str(storage), echo=log.append, **settings)
    images = (project / "artifacts/data/images.npy").read_bytes()
    assert (project / "artifacts/models/good/deep/weights").read_bytes() == b"good" + images
    assert (project / "artifacts/metrics/good.json").read_text() == "pipeline" + head.address.split(":")[1]
    assert (project / "note").read_text() == "noted"
    assert not (project / "artifacts/models/good/old").exists()
    assert "begun" in "".join(log) and "broke off" not in "".join(log)
    assert not list(storage.iterdir()) and not list((project / ".runs").iterdir())


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("bad", "error: the loss is not finite"),
        ("incomplete", "artifacts/metrics/incomplete.json is missing"),
    ],
)
def test_a_failing_job_is_an_error_with_its_last_lines(network: str, message: str, project: Path, head: Head) -> None:
    with pytest.raises(UserError) as caught:
        job.submit("train", network, head.dashboard, "storage", environment={"GREETING": "hello"}, echo=len)
    assert "ended as FAILED" in str(caught.value) and message in str(caught.value)
    assert not (project / "artifacts/models" / network).exists()
    assert (project / "artifacts/models/good/old").exists()
    assert not list((project / "storage").iterdir())


def test_an_interruption_here_stops_the_job_there(project: Path, head: Head) -> None:
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # a shell's `&` ignores it
    submit = f"from pipeline.cluster import job; job.submit('train', 'slow', {head.dashboard!r}, 'storage')"
    code = f"{heed}; {submit}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with (project / "log").open("w") as log:
        submitter = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=log)
    while "begun" not in (project / "log").read_text():
        assert submitter.poll() is None, (project / "log").read_text()
        time.sleep(0.1)
    submitter.send_signal(signal.SIGINT)
    assert submitter.wait(200) != 0
    client = JobSubmissionClient(head.dashboard)
    (name,) = [j.submission_id for j in client.list_jobs() if (j.submission_id or "").startswith("train-slow")]
    for _ in range(600):
        if client.get_job_status(str(name)).is_terminal():
            break
        time.sleep(0.1)
    assert client.get_job_status(str(name)) == "STOPPED"


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "127.0.0.1:8265", "ray://127.0.0.1:10001"])
def test_an_address_that_does_not_answer_is_told_at_once(address: str, project: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(UserError, match=r"compute\.job_address"):
        job.submit("train", "good", address, "storage")
    assert time.monotonic() - begun < 8


class Refusing:
    """A client of a cluster that takes no job."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.stopped: list[str] = []

    def submit_job(self, **job: object) -> str:
        raise self.error

    def stop_job(self, name: str) -> None:
        self.stopped.append(name)


@pytest.mark.parametrize("kind", [RuntimeError, ConnectionError, ValueError])
def test_a_refused_job_is_told_and_leaves_nothing(
    kind: type[Exception], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Refusing(kind("no room"))
    monkeypatch.setattr(job, "_client", lambda address: client)
    with pytest.raises(UserError, match=r"compute\.job_address refused job train-good-.*no room.*null"):
        job.submit("train", "good", "http://head:8265", "storage")
    assert not list((project / "storage").iterdir())
    assert len(client.stopped) == 1, "it may have been accepted, and only the answer lost"


def test_an_address_without_storage_is_told(project: Path) -> None:
    with pytest.raises(UserError, match=r"compute\.job_storage"):
        job.submit("train", "good", "http://127.0.0.1:1", None)


def test_a_stage_is_submitted_from_outside_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert job.wanted("http://head:8265") and not job.wanted(None)
    monkeypatch.setenv(job.INSIDE, "1")
    assert not job.wanted("http://head:8265")


TRACKED = """
from pathlib import Path
from pipeline import entry, tracking

def main(params, network):
    with tracking.stage("train", network, params) as run:
        for step in range(3):
            run.log_metrics({"loss": 3.0 - step}, step)
        for out in ("artifacts/models/good", "artifacts/metrics"):
            Path(out).mkdir(parents=True)
        Path("artifacts/models/good/weights").write_text(network)
        Path("artifacts/metrics/good.json").write_text("{}")
        run.log_artifact(Path("artifacts/models/good"))

if __name__ == "__main__":
    entry.run(main, submits=True)
"""


def test_a_stage_goes_through_its_entry_and_is_tracked_here(project: Path, head: Head) -> None:
    params = read_yaml(project / "params.yaml")
    params["compute"] |= {"job_address": head.dashboard, "job_storage": "storage"}
    write_yaml(project / "params.yaml", params)
    (project / "stages" / "train.py").write_text(TRACKED)
    command = [sys.executable, "-m", "stages.train", "good"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (project / "artifacts/models/good/weights").read_text() == "good"
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    (experiment,) = [e.experiment_id for e in client.search_experiments() if e.name != "Default"]
    (run,) = client.search_runs([experiment], "tags.stage = 'train'")
    assert [m.value for m in client.get_metric_history(run.info.run_id, "loss")] == [3.0, 2.0, 1.0]
    assert [a.path for a in client.list_artifacts(run.info.run_id)] == ["weights"]
    assert run.info.status == "FINISHED" and run.data.tags["network"] == "good"


SHARED = """
import os, sys
from pathlib import Path
from pipeline.cluster.connect import connect, worker_environment
from pipeline.tracking.process import command, pipeline_owner

def elsewhere():
    import pipeline, ray
    return str(Path(pipeline.__file__).parents[1]) + ray.get_runtime_context().gcs_address

def main():
    with connect(workers=1, cpus_per_worker=1, use_gpu="auto"):
        import ray
        found = ray.get(ray.remote(elsewhere).options(runtime_env=worker_environment(1)).remote())
    if not (found.startswith(str(Path.cwd())) and found.endswith(sys.argv[1])):
        sys.exit("error: worked on " + found)
    Path("out").write_text("dvc" if "dvc" in str(command(pipeline_owner())) else "alone")

if __name__ == "__main__":
    main()
"""


def test_dvc_in_a_job_on_a_shared_file_system_works_on_the_cluster_and_fails_with_its_stage(
    project: Path, head: Head
) -> None:
    (project / "pipeline").unlink()
    shutil.copytree(ROOT / "pipeline", project / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    (project / "stages" / "train.py").write_text(SHARED)
    (project / "dvc.yaml").write_text(
        "stages:\n  good: {cmd: python -m stages.train PORT, outs: [out]}\n"
        "  bad: {cmd: python -m stages.train nowhere, deps: [out]}\n".replace("PORT", head.address[-5:])
    )
    subprocess.run(["dvc", "init", "--no-scm"], env=head.environment, check=True, capture_output=True)

    done = submitted(head, project, "dvc repro", capture_output=True, timeout=120)
    assert done.returncode != 0 and "error: worked on" in done.stdout, done.stdout + done.stderr
    assert (project / "out").read_text() == "dvc"
    assert (project / "dvc.lock").read_text().count("cmd:") == 1
