"""The runs of a stage in a real store: what they hold, how they nest, how they end."""

import contextlib
import itertools
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline import tracking
from pipeline.data.preparation import prepare
from pipeline.files import sha256, write_json
from pipeline.ncsn.errors import UserError
from pipeline.tracking import deliver, process, shipping
from stages.report import evaluation

from .conftest import HEAD, Place

LEAVES = """
with tracking.stage('prepare', None, p) as run:
    run.child('trial')
    if sys.argv[1] == '2': os.kill(os.getpid(), signal.SIGKILL)
"""
"""A stage that is killed in the second of its two processes."""
UNFOLLOWED = """
from pipeline.tracking import shipping
shipping.ensure = lambda root: not shipping.ship(root)
"""
"""No process follows the pipeline: each stage delivers by itself."""


def test_a_stage_holds_what_it_was_told(place: Place) -> None:
    (place.path / "plot.txt").write_text("a plot")
    manifest = prepare(place.path / "data", **place.params.data.kwargs())
    digest = manifest["sha256"]["images"]
    with tracking.stage("train", "ncsn", place.params) as run:
        for step in range(3):
            run.log_metrics({"loss": 3.0 - step, "nested": {"fid": step}, "evaluator": "classifier"}, step)
        run.log_artifact(place.path / "plot.txt", "figures")
        run.log_dataset(manifest)
    (stage,) = place.runs("stage")
    assert (stage.info.run_id, stage.info.status) == (run.id, "FINISHED")
    assert [m.value for m in place.client.get_metric_history(run.id, "loss")] == [3.0, 2.0, 1.0]
    assert stage.data.metrics == {"loss": 1.0, "nested.fid": 2.0}
    assert stage.data.params["train.steps"] == str(place.params.train.steps)
    assert stage.data.params["recipe.network.kind"] == "ncsn"
    assert not [key for key in stage.data.params if key.startswith(("recipes.", "data", "tracking"))]
    assert "recipe.network.kind" not in place.runs("pipeline")[0].data.params, "one network's alone"
    named = {"stage": "train", "network": "ncsn", "preset": "digits", "data.sha256": digest}
    assert named.items() <= stage.data.tags.items()
    assert [a.path for a in place.client.list_artifacts(run.id, "figures")] == ["figures/plot.txt"]
    (dataset,) = stage.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("digits", digest[:16])
    assert "mlartifacts" in stage.info.artifact_uri and str(place.path) in stage.info.artifact_uri


def test_trials_are_nested_below_the_stage_below_the_pipeline(place: Place) -> None:
    with tracking.stage("tune_noise", None, place.params) as run:
        with run.child("trial 0", {"sigma_max": 0.5}) as good:
            good.log_metrics({"fid": 1.5})
        with pytest.raises(ValueError, match="bad"), run.child("trial 1"):
            raise ValueError("bad")
    (pipeline,), (stage,), trials = place.runs("pipeline"), place.runs("stage"), place.runs("trial")
    assert stage.data.tags["mlflow.parentRunId"] == pipeline.info.run_id == run.parent_id
    assert {t.data.tags["mlflow.parentRunId"] for t in trials} == {run.id}
    assert [t.info.status for t in trials] == ["FINISHED", "FAILED"]
    assert trials[0].data.params == {"sigma_max": "0.5"} and trials[0].data.metrics == {"fid": 1.5}
    assert [r.info.status for r in (stage, pipeline)] == ["FINISHED", "FINISHED"]


def test_the_parent_shows_the_headline_and_the_files_and_all_parameters_that_count(place: Place) -> None:
    Path("reports/figures").mkdir(parents=True)
    for name in ("table.md", "figures/samples.png"):
        (Path("reports") / name).write_text("x")
    with tracking.stage("tune_noise", None, place.params) as run:
        run.log_metrics({"raw": {"fid": 9.0}})
        run.log_params({"settled_noise": {"tuned": {"sigma_max": 3.5}}})
        run.summarise({"fid/tuned/raw": 9.0}, Path("reports"))
        run.summarise({"fid/tuned/raw": 7.0}, Path("reports"))
    (pipeline,) = place.runs("pipeline")
    assert pipeline.data.metrics == {"fid/tuned/raw": 7.0}
    assert pipeline.data.params["settled_noise.tuned.sigma_max"] == "3.5", "found by the stage"
    assert pipeline.data.params["generate.seed"] == str(place.params.generate.seed), "of a stage that did not run"
    assert [key for key in pipeline.data.params if key.startswith(("compute", "tracking"))] == ["compute.kernels"]
    files = [place.client.list_artifacts(pipeline.info.run_id, folder) for folder in (None, "figures")]
    assert [[a.path for a in found] for found in files] == [["figures", "table.md"], ["figures/samples.png"]]


def test_two_stages_of_one_dvc_process_share_a_parent_and_the_last_ends_it(place: Place) -> None:
    code = """
with tracking.stage('prepare', None, p, last=sys.argv[1] == '2') as run:
    run.log_metrics({sys.argv[1]: 1})
"""
    done = place.run(code, under_dvc=True)
    assert not done.stderr, done.stderr
    (pipeline,), stages = place.runs("pipeline"), place.runs("stage")
    assert [s.data.tags["mlflow.parentRunId"] for s in stages] == [pipeline.info.run_id] * 2
    assert pipeline.info.status == "FINISHED"
    assert [s.data.metrics for s in stages] == [{"1": 1.0}, {"2": 1.0}]


def test_a_part_of_a_pipeline_ends_its_parent_by_the_process_that_follows_it(place: Place) -> None:
    done = place.run("with tracking.stage('prepare', None, p): pass", under_dvc=True)
    assert not done.stderr, done.stderr
    assert len(place.runs("stage")) == 2
    (pipeline,) = place.runs("pipeline")
    assert pipeline.info.status == "FINISHED" and pipeline.info.end_time


def test_what_a_pipeline_left_running_is_ended_by_the_process_that_follows_it(place: Place) -> None:
    place.run(LEAVES, under_dvc=True)
    assert [r.info.status for r in place.runs("stage")] == ["FINISHED", "KILLED"]
    assert [r.info.status for r in place.runs("trial")] == ["KILLED", "KILLED"]
    assert [r.info.status for r in place.runs("pipeline")] == ["KILLED"]


def test_what_a_pipeline_left_running_is_ended_at_the_next_start(
    place: Place,
) -> None:
    place.run(UNFOLLOWED + LEAVES, under_dvc=True)
    assert [r.info.status for r in place.runs("stage") + place.runs("pipeline")] == [
        "FINISHED",
        "RUNNING",
        "RUNNING",
    ]
    with tracking.stage("features", None, place.params):
        pass
    assert [r.info.status for r in place.runs("stage")] == ["FINISHED", "KILLED", "FINISHED"]
    assert [r.info.status for r in place.runs("trial")] == ["KILLED", "KILLED"]
    assert [r.info.status for r in place.runs("pipeline")] == ["KILLED", "FINISHED"]


def test_a_failing_stage_fails_its_run_and_its_parent_and_says_why(place: Place) -> None:
    with pytest.raises(UserError), tracking.stage("prepare", None, place.params):
        raise UserError("data.name is wrong")
    (stage,), (pipeline,) = place.runs("stage"), place.runs("pipeline")
    assert (stage.info.status, pipeline.info.status) == ("FAILED", "FAILED")
    assert stage.data.tags["error"] == "UserError: data.name is wrong"


def test_termination_ends_the_run(place: Place) -> None:
    (place.path / "code.py").write_text(
        HEAD + "with tracking.stage('prepare', None, p):\n    Path('up').touch()\n    time.sleep(60)"
    )
    stage = subprocess.Popen([sys.executable, "code.py"], env=place.environment())
    while not (place.path / "up").exists():
        assert stage.poll() is None
        time.sleep(0.05)
    stage.terminate()
    assert stage.wait(30) == 128 + signal.SIGTERM
    assert [r.info.status for r in place.runs("stage") + place.runs("pipeline")] == ["KILLED", "KILLED"]


def test_the_environment_names_a_parent(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with tracking.stage("prepare", None, place.params) as first:
        monkeypatch.setenv(tracking.PARENT, str(first.parent_id))
        with tracking.stage("features", None, place.params) as second:
            pass
        assert second.parent_id == first.parent_id
        assert place.client.get_run(second.parent_id).info.status == "RUNNING"
    monkeypatch.setenv(tracking.PARENT, "0" * 32)
    with (
        pytest.raises(UserError, match="PIPELINE_PARENT_RUN=0000"),
        tracking.stage("prepare", None, place.params),
    ):
        pass


@pytest.fixture
def restart(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Make this process another, as the next `dvc repro` is."""
    starts = itertools.count(step=1000)

    def another() -> None:
        start = next(starts)
        monkeypatch.setattr(process, "key", lambda owner: f"{process.prefix(owner)}{start}")

    return another


def evaluated(place: Place, number: str) -> str:
    """The id of the pipeline run of an evaluation that came to this number."""
    with tracking.stage("evaluate", "tuned", place.params) as run:
        run.set_tags({"number": number})
    return str(run.parent_id)


def reported(place: Place, *numbers: str) -> str:
    """The id of the pipeline run of a report that shows these numbers."""
    shows = [{"number": number} for number in numbers]
    with tracking.stage("report", None, place.params, last=True, shows=shows) as run:
        run.summarise({"fid": float(numbers[0])}, Path("params.yaml"))
    return str(run.parent_id)


def test_a_report_alone_joins_the_pipeline_run_of_the_newest_numbers_it_shows(
    place: Place, restart: Callable[[], None]
) -> None:
    made = []
    for number in "123":
        restart()
        made.append(evaluated(place, number))
    before = {run.info.run_id: run.info.end_time for run in place.runs("pipeline")}
    assert len(before) == 3
    restart()
    assert reported(place, "2", "1", "none") == made[1]
    assert reported(place, "1") == made[0]
    assert place.client.get_run(made[0]).data.metrics == {"fid": 1.0}
    with pytest.raises(ValueError, match="convert string to float"):
        reported(place, "x", "1")
    assert {run.info.run_id: run.info.end_time for run in place.runs("pipeline")} == before
    assert {run.info.status for run in place.runs("pipeline")} == {"FINISHED"}, "as they had ended"
    assert place.runs("stage")[-1].info.status == "FAILED"


def test_a_report_of_nothing_known_begins_a_pipeline_run(place: Place, restart: Callable[[], None]) -> None:
    gone = evaluated(place, "1")
    place.client.delete_run(gone)
    restart()
    assert reported(place, "1") != gone
    restart()
    assert reported(place, "2") != gone
    assert len(place.runs("pipeline")) == 2


def test_a_report_after_other_stages_stands_with_them(place: Place, restart: Callable[[], None]) -> None:
    evaluated(place, "1")
    restart()
    with tracking.stage("toy", None, place.params) as toy:
        pass
    assert reported(place, "1") == toy.parent_id


def test_an_experiment_has_its_name_and_a_run_of_its_own(
    place: Place, restart: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated(place, "1")
    restart()
    monkeypatch.setenv("DVC_EXP_NAME", "other-seed")
    reported(place, "1")
    names = [run.info.run_name for run in place.runs("pipeline")]
    assert names[0].startswith("digits 20") and names[1:] == ["other-seed"]


def test_runs_are_found_by_their_tags(place: Place) -> None:
    with tracking.stage("train", "ncsn", place.params) as old:
        assert old.find({"stage": "generate"}) is None
    with tracking.stage("train", "ncsn", place.params) as new:
        assert new.find({"stage": "train", "network": "ncsn"}) == old.id, "the new one has not finished"
    with tracking.stage("train", "tuned", place.params) as other:
        assert other.find({"stage": "train", "network": "ncsn"}) == new.id != old.id


def test_a_row_names_the_run_that_wrote_its_numbers_or_none(place: Place) -> None:
    path = Path("artifacts/evaluation/ncsn.json")

    def evaluated(preset: str, numbers: object, error: type[Exception] | None = None) -> str | None:
        params = place.params.model_copy(update={"preset": preset})
        with contextlib.suppress(RuntimeError), tracking.stage("evaluate", "ncsn", params) as run:
            write_json(path, numbers)
            run.set_tags({"metrics.sha256": sha256(path)})
            if error:
                raise error
        return run.id

    ours = evaluated("digits", 1)
    evaluated("mnist", 1)
    evaluated("digits", 1, RuntimeError)
    evaluated("digits", 2)
    with tracking.stage("report", None, place.params, last=True) as run:
        write_json(path, 1)
        assert run.find(evaluation("digits", "ncsn")) == ours, "a row from DVC's cache is older than the newest run"
        assert run.find(evaluation("cifar10", "ncsn")) is None
        write_json(path, 3)
        assert run.find(evaluation("digits", "ncsn")) is None
        assert run.find(evaluation("digits", "tuned")) is None, "not evaluated"


def test_switched_off_it_is_silent_and_mlflow_is_not_imported(empty_place: Place) -> None:
    text = (empty_place.path / "params.yaml").read_text()
    (empty_place.path / "params.yaml").write_text(text.replace("enabled: true", "enabled: false"))
    done = empty_place.run("""
with tracking.stage('train', 'ncsn', p) as run, run.child('trial') as trial:
    trial.log_metrics({'loss': 1.0}); run.log_dataset({}); run.log_network(Path('no'), 'n', (1, 8, 8))
    run.report_network(Path('no'), 'n', 'note'); run.summarise({'fid': 1.0}, Path('no'))
    assert run.id is None and trial.id is None and 'mlflow' not in sys.modules
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (empty_place.path / "mlflow.db").exists()


@pytest.mark.parametrize("answering", [False, True], ids=["refused", "silent"])
def test_a_server_that_is_not_there_is_one_error_and_soon(
    empty_place: Place, answering: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if answering:
            server.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        begun = time.monotonic()
        with pytest.raises(UserError) as caught, tracking.stage("train", "ncsn", empty_place.params):
            raise AssertionError("the work began")
    assert time.monotonic() - begun < 12
    for piece in ("MLFLOW_TRACKING_URI=http://127.0.0.1:", "unset", "tracking.enabled: false"):
        assert piece in str(caught.value)


def test_a_store_that_fails_under_way_stops_nothing_and_gets_everything_later(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log_batch, down = MlflowClient.log_batch, True

    def failing(self: MlflowClient, *arguments: object, **named: object) -> None:
        if down:
            raise MlflowException("no route to host")
        log_batch(self, *arguments, **named)

    with tracking.stage("train", "ncsn", place.params) as run:
        monkeypatch.setattr(MlflowClient, "log_batch", failing)
        run.set_tags({"late": "1"})
        for step in range(1500):
            run.log_metrics({"loss": 1.0}, step)
        run.child("trial").log_metrics({"fid": 1.0})
    told = [r.message for r in caplog.records if r.name.startswith("pipeline.tracking")]
    assert len(told) == 1 and "no route to host" in told[0] and "python -m pipeline.tracking ship" in told[0]
    down = False
    time.sleep(deliver.PAUSE_S)
    shipping.ship(place.path, 0)
    while list(place.path.glob(".runs/tracking/*.jsonl")):
        time.sleep(0.05)
    (stage,), (trial,) = place.runs("stage"), place.runs("trial")
    assert len(place.client.get_metric_history(stage.info.run_id, "loss")) == 1500
    assert stage.data.tags["late"] == "1" and trial.data.metrics == {"fid": 1.0}
    assert stage.info.status == "FINISHED"


def test_six_processes_that_start_at_once_on_no_store_all_write(empty_place: Place) -> None:
    (empty_place.path / "code.py").write_text(
        HEAD + "with tracking.stage('prepare', None, p) as run:\n  for i in range(5): run.child(f't{i}').end()"
    )
    stages = [
        subprocess.Popen([sys.executable, "code.py"], env=empty_place.environment(), stderr=subprocess.PIPE)
        for _ in range(6)
    ]
    assert [stage.communicate(timeout=120)[1] for stage in stages] == [b""] * 6
    assert [r.info.status for r in empty_place.runs("stage")] == ["FINISHED"] * 6
    assert len(empty_place.runs("trial")) == 30


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["dvc", "repro"], True),
        (["/usr/bin/python3.11", "/home/x/.venv/bin/dvc", "repro"], True),
        (["python", "-X", "-m", "dvc", "exp", "exec-run"], True),
        (["python", "-m", "stages.train", "dvc"], False),
        (["make", "dvc"], False),
        (["bash", "-c", "cd repo && dvc repro"], False),
        ([], False),
    ],
)
def test_dvc_is_known_by_its_command_line(arguments: list[str], expected: bool) -> None:
    assert process.is_dvc(arguments) is expected


def test_a_process_is_known_again_and_its_end_is_seen() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = process.key(psutil.Process(child.pid))
    assert not process.gone(name)
    assert process.gone(name.rsplit("/", 1)[0] + "/1000")  # the same number, another process
    child.communicate(b"\n")
    assert process.gone(name)
