"""A password of the store is used where the store is spoken to, and kept nowhere."""

import logging
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from pipeline import tracking
from pipeline.ncsn.errors import UserError
from pipeline.tracking import __main__ as command
from pipeline.tracking import mlflow_store
from pipeline.tracking.record import Delivered, RecordFile

from .conftest import Place

SECRET = "opensesame"
ADDRESS = f"http://me:{SECRET}@tracking.lab:5000"


@pytest.fixture
def server(place: Place, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that MLflow is asked for; it answers from a store on this disk."""
    asked: list[str] = []

    def client(uri: str) -> MlflowClient:
        asked.append(uri)
        return MlflowClient(f"sqlite:///{place.path}/mlflow.db")

    monkeypatch.setattr(mlflow_store, "MlflowClient", client)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", ADDRESS)
    return asked


def kept(place: Place) -> list[Path]:
    return [path for path in (place.path / ".runs").rglob("*") if path.is_file()]


def test_a_password_reaches_the_store_and_no_file(place: Place, server: list[str]) -> None:
    with tracking.stage("train", "ncsn", place.params) as run:
        run.log_metrics({"a name that is refused!": 1.0})
        assert run.id and run.find({"stage": "none"}) is None
        assert len(kept(place)) >= 4, "record, state, opened, lock"
        held = {path.name: path.read_bytes() for path in kept(place)}
        assert not [name for name, content in held.items() if SECRET.encode() in content]
        open_to_others = [path.name for path in kept(place) if path.stat().st_mode & 0o077]
        assert not open_to_others
    assert {*server} == {ADDRESS}


def test_what_waits_needs_the_password_again(place: Place, server: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from .test_record import killed

    monkeypatch.setattr("pipeline.tracking.provenance.store_uri", lambda root: ADDRESS)
    with monkeypatch.context() as undone:
        killed(place, range(3), undone)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match=r"password of http://\*\*\*@tracking\.lab:5000 is not kept: set MLFLOW_TR"):
        command.main(["ship"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", ADDRESS)
    monkeypatch.setattr("pipeline.tracking.deliver.PAUSE_S", 0.0)
    command.main(["ship"])
    assert len(place.runs("stage")) == 1


def test_an_error_does_not_repeat_the_password(
    empty_place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "pipeline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{SECRET}@127.0.0.1:1")
    with pytest.raises(UserError) as caught, tracking.stage("train", "ncsn", empty_place.params):
        raise AssertionError("the work began")
    assert "MLFLOW_TRACKING_URI=http://***@127.0.0.1:1 cannot be used" in str(caught.value)
    assert SECRET not in str(caught.value) + caplog.text
    with pytest.raises(UserError) as caught:
        tracking.records(["0" * 32])
    assert SECRET not in str(caught.value)


def test_a_database_without_its_driver_is_one_message(empty_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def client(uri: str) -> MlflowClient:
        raise ModuleNotFoundError("No module named 'psycopg'", name="psycopg")

    monkeypatch.setattr(mlflow_store, "MlflowClient", client)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://me:{SECRET}@127.0.0.1/runs")
    with (
        pytest.raises(UserError, match=r"=postgresql://\*\*\*@127.* driver .*missing: `pip install psycopg`"),
        tracking.stage("train", "ncsn", empty_place.params),
    ):
        raise AssertionError("the work began")


def test_a_stage_s_error_tag_hides_what_the_error_says(place: Place) -> None:
    with pytest.raises(RuntimeError), tracking.stage("train", "ncsn", place.params):
        raise RuntimeError(f"no answer from {ADDRESS}")
    (stage,) = place.runs("stage")
    assert stage.data.tags["error"] == "RuntimeError: no answer from http://***@tracking.lab:5000"


def test_a_state_is_this_user_s_alone(tmp_path: Path) -> None:
    record = RecordFile(tmp_path / "a.jsonl")
    record.acknowledge(Delivered(offset=1))
    assert (tmp_path / "a.state").stat().st_mode & 0o777 == 0o600
