"""A job that cannot reach the store takes notes, and the process that submitted it tells the store."""

import base64
from pathlib import Path

import pytest

from pipeline import tracking
from pipeline.tracking.record import RecordFile
from pipeline.tracking.recorder import Notes, Run, repeat

from .conftest import Place

MANIFEST = {
    "name": "digits",
    "homepage": "https://example.org",
    "source": [],
    "shape": [4, 1, 8, 8],
    "dtype": "uint8",
    "range": [0, 255],
    "sha256": {"images": "ab" * 32, "labels": "cd" * 32},
}


def work(params: tracking.Settings) -> None:
    """What a stage does inside a job, trials under way at the same time."""
    with tracking.stage("tune_noise", None, params) as run:
        trials = [run.child(f"trial {k}", {"sigma_max": k}) for k in range(3)]
        for step in range(2):
            for k, trial in enumerate(trials):
                trial.log_metrics({"loss": 10 * k + step}, step)
        for trial in trials[:2]:
            trial.log_picture("samples", base64.b64encode(b"a picture").decode())
        for trial, status in zip(trials, ("FINISHED", "FAILED", "KILLED"), strict=True):
            trial.end(status)
        run.log_dataset(MANIFEST)
        run.log_artifact(Path("artifacts/tune_noise/plot.txt"))
        run.log_metrics({"best": 3.5})
        run.summarise({"fid/tuned": 3.5}, Path("artifacts/tune_noise/plot.txt"))


def plotted(place: Place) -> None:
    path = place.path / "artifacts/tune_noise/plot.txt"
    path.parent.mkdir(parents=True)
    path.write_text("a plot")


def recorded(place: Place) -> list[object]:
    (stage,), (pipeline,) = place.runs("stage"), place.runs("pipeline")
    trials = sorted(place.runs("trial"), key=lambda run: run.info.run_name)
    history = [[m.value for m in place.client.get_metric_history(t.info.run_id, "loss")] for t in trials]
    return [
        stage.info.status, stage.data.metrics, stage.data.params, stage.data.tags["data.sha256"],
        [a.path for a in place.client.list_artifacts(stage.info.run_id)],
        [(t.info.run_name, t.info.status, t.data.params) for t in trials],
        [[a.path for a in place.client.list_artifacts(t.info.run_id)] for t in trials],
        history,
        {t.data.tags["mlflow.parentRunId"] for t in trials} == {stage.info.run_id},
        [a.path for a in place.client.list_artifacts(pipeline.info.run_id)],
        pipeline.data.metrics,
    ]  # fmt: skip


def test_a_relayed_stage_leaves_the_record_of_a_direct_one(
    place: Place, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    plotted(place)
    with tracking.relay("tune_noise", None, place.params) as relay, monkeypatch.context() as job:
        for name, value in relay.environment.items():
            job.setenv(name, value)
        work(place.params)
        assert all((place.path / name).exists() for name in relay.returns) and relay.returns
    relayed = recorded(place)
    assert relayed[6] == [["samples.png"], ["samples.png"], []]
    assert not any((place.path / name).exists() for name in relay.returns)

    direct = Place(tmp_path_factory.mktemp("direct"), place.params)
    plotted(direct)
    for name in ("params.yaml", "dvc.yaml"):
        (direct.path / name).write_bytes((place.path / name).read_bytes())
    monkeypatch.chdir(direct.path)
    work(direct.params)
    assert relayed == recorded(direct)


def test_a_server_that_others_reach_is_told_by_the_job_itself(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with tracking.stage("tune_noise", None, place.params) as submitter, monkeypatch.context() as job:
        plotted(place)
        job.setenv(tracking.ATTACH, str(submitter.id))
        work(place.params)
        assert place.runs("stage")[0].info.status == "RUNNING"
    assert [s.info.run_id for s in place.runs("stage")] == [submitter.id]
    assert recorded(place)[:2] == ["FINISHED", {"best": 3.5}]
    assert recorded(place)[-2:] == [["plot.txt"], {"fid/tuned": 3.5}]


@pytest.mark.parametrize(
    ("uri", "live"),
    [
        ("http://tracking.lab:5000", True),
        ("https://x.org", True),
        ("http://127.0.0.1:5000", False),
        ("", False),
    ],
)
def test_a_store_on_this_machine_is_no_address_for_a_job(uri: str, live: bool) -> None:
    assert tracking._reachable_from_elsewhere(uri) is live


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"])
def test_a_server_that_asks_for_a_password_is_no_address_for_a_job(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not tracking._reachable_from_elsewhere("https://me:opensesame@tracking.lab")
    assert tracking._reachable_from_elsewhere("https://tracking.lab")
    monkeypatch.setenv(variable, "opensesame")
    assert not tracking._reachable_from_elsewhere("https://tracking.lab")


@pytest.mark.parametrize("path", ["../plot.txt", "/elsewhere/plot.txt", "artifacts/../plot.txt", "params.yaml"])
def test_notes_that_name_another_file_or_end_a_stage_are_passed_over(
    path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notes = Notes(tmp_path / "in.jsonl")
    notes.write((), "log_artifact", {"path": Path(path)})
    notes.write((), "begin", {"uri": "elsewhere"})
    notes.write((), "end", {"status": "FINISHED"})
    notes.write((0,), "end", {"status": "FINISHED"})
    notes.write((), "log_artifact", {"path": Path("artifacts/models/ncsn/plot.txt")})
    repeat(tmp_path / "in.jsonl", Run(Notes(tmp_path / "out.jsonl")), ["artifacts/models"])
    told = [(line.call, line.address) for line in RecordFile(tmp_path / "out.jsonl").lines()]
    assert told == [("end", (0,)), ("log_artifact", ())]
    assert "3 notes of the job are damaged or name foreign files" in caplog.text


def test_no_notes_are_nothing_to_tell(tmp_path: Path) -> None:
    repeat(tmp_path / "none.jsonl", Run(Notes(tmp_path / "out.jsonl")), [])
    assert not (tmp_path / "out.jsonl").exists()
