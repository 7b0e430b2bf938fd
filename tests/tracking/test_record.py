"""The record on this disk: nothing waits for the store, nothing is lost, nothing arrives twice."""

import errno
import math
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline import tracking
from pipeline.ncsn.errors import UserError
from pipeline.tracking import __main__ as command
from pipeline.tracking import deliver, shipping, stage_run
from pipeline.tracking.provenance import heading
from pipeline.tracking.record import Delivered, RecordFile, record_files
from pipeline.tracking.stage_run import Book

from .conftest import Place

STEP_S = 0.05
"""What tracking may cost a step."""


def history(place: Place, run_id: str | None) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in place.client.get_metric_history(str(run_id), "loss")]


def work(run: tracking.Run, steps: range) -> None:
    trial = run.child("trial", {"k": 1})
    for step in steps:
        run.log_metrics({"loss": 10.0 - step}, step)
        trial.log_metrics({"fid": float(step)}, step)
    run.set_tags({"reached": str(steps.stop)})


def killed(place: Place, steps: range, monkeypatch: pytest.MonkeyPatch) -> Book:
    """The record of a stage that was killed in its work, of which nothing was delivered."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place.path}/mlflow.db")
    params = place.params.model_dump()
    book = Book(place.path, heading(place.path, "train", "ncsn", params, last=False, shows=()))
    work(tracking.Run(book), steps)
    book.close()
    return book


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.6])
def test_what_arrived_without_an_acknowledgement_arrives_once(
    place: Place, monkeypatch: pytest.MonkeyPatch, fraction: float
) -> None:
    book = killed(place, range(5), monkeypatch)
    assert shipping.ship(place.path) == []
    state = book.record.delivered()
    lines = book.record.lines()
    offset = 0 if fraction == 0 else lines[int(fraction * len(lines))].start
    known = {} if fraction == 0 else state.runs
    book.record.acknowledge(replace(state, offset=offset, runs=known, parent=state.parent if known else None))
    assert shipping.ship(place.path) == []
    (stage,), (trial,) = place.runs("stage"), place.runs("trial")
    assert len(place.runs("pipeline")) == 1
    assert history(place, stage.info.run_id) == [(step, 10.0 - step) for step in range(5)]
    fids = place.client.get_metric_history(trial.info.run_id, "fid")
    assert [m.step for m in fids] == list(range(5))


def test_a_killed_stage_run_again_goes_on_with_its_run(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    killed(place, range(5), monkeypatch)
    assert shipping.ship(place.path) == []
    (before,) = place.runs("stage")
    with tracking.stage("train", "ncsn", place.params) as run:
        work(run, range(8))  # a resumed training tells its earlier steps again
        assert run.id == before.info.run_id
    (stage,), (trial,) = place.runs("stage"), place.runs("trial")
    assert history(place, stage.info.run_id) == [(step, 10.0 - step) for step in range(8)]
    assert stage.info.status == "FINISHED" and stage.data.tags["reached"] == "8"
    assert [m.step for m in place.client.get_metric_history(trial.info.run_id, "fid")] == list(range(8))
    with tracking.stage("train", "ncsn", place.params) as another:
        assert another.id != run.id, "a finished run is not gone on with"


def test_a_stage_that_does_something_else_begins_a_run_of_its_own(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(place, range(5), monkeypatch)
    assert shipping.ship(place.path) == []
    longer = place.params.train.model_copy(update={"steps": 5})
    with tracking.stage("train", "ncsn", place.params.model_copy(update={"train": longer})):
        pass
    assert len(place.runs("stage")) == 2
    while left := record_files(place.path):
        assert len(left) == 1  # the new one, for a moment


@pytest.mark.parametrize("moment", ["lines", "open"])
def test_a_record_that_is_delivered_and_deleted_while_it_is_looked_at_is_not_gone_on_with(
    place: Place, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    before = killed(place, range(5), monkeypatch)
    read = getattr(RecordFile, moment)

    def then_delivered(record: RecordFile, *given: int) -> object:
        found = read(record, *given)
        if record.path == before.record.path:
            with monkeypatch.context() as undone:
                undone.setattr(RecordFile, moment, read)
                record.discard()
        return found

    monkeypatch.setattr(RecordFile, moment, then_delivered)
    book = Book(place.path, before.heading)
    assert not book.continued and book.record.path != before.record.path
    book.withdraw()
    assert record_files(place.path) == []


def test_a_record_that_is_written_is_not_discarded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    killed(place, range(5), monkeypatch)
    book = Book(place.path, killed(place, range(1), monkeypatch).heading)
    book.record.discard()
    assert book.record.size() > 0
    book.close()
    book.record.discard()
    assert book.record.size() == 0


def test_a_line_torn_by_a_kill_is_passed_over(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    book = killed(place, range(5), monkeypatch)
    with book.record.path.open("ab") as file:
        file.write(b'[1, [], "log_metr')
    assert shipping.ship(place.path) == []
    with tracking.stage("train", "ncsn", place.params) as run:
        work(run, range(6))
    assert history(place, run.id) == [(step, 10.0 - step) for step in range(6)]


def test_a_file_is_delivered_as_it_was(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    book = killed(place, range(0), monkeypatch)
    folder = place.path / "out"
    folder.mkdir()
    (folder / "a.txt").write_text("as it was")
    with tracking.stage("train", "ncsn", place.params) as run:
        run.log_artifact(folder)
        (folder / "a.txt").unlink()
        (folder / "a.txt").write_text("later")
    path = place.client.download_artifacts(str(run.id), "a.txt")
    assert Path(path).read_text() == "as it was"
    while book.record.files.exists():
        time.sleep(0.01)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """How every call to MLflow goes: "up", "down" or "stalls", as the list's last entry says."""
    state = ["up"]

    def wrap(name: str) -> None:
        real = getattr(MlflowClient, name)

        def call(self: MlflowClient, *arguments: object, **named: object) -> object:
            if state[-1] == "stalls":
                time.sleep(0.5)
            if state[-1] != "up":
                raise MlflowException("no route to host")
            return real(self, *arguments, **named)

        monkeypatch.setattr(MlflowClient, name, call)

    for name in ("log_batch", "create_run", "search_runs", "get_experiment_by_name", "set_terminated"):
        wrap(name)
    yield state
    state.append("up")


def recording(place: Place) -> tracking.Settings:
    """The parameters with tracking.unreachable: record."""
    return place.params.model_copy(
        update={"tracking": place.params.tracking.model_copy(update={"unreachable": "record"})}
    )


@pytest.mark.parametrize(
    "course", [["down"] * 4, ["up", "stalls", "stalls", "down"], ["up", "down", "up", "stalls"]], ids="-".join
)
def test_a_store_that_comes_and_goes_costs_no_step_and_loses_nothing(
    place: Place, store: list[str], course: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "PAUSE_S", 0.2)
    store.append(course[0])
    slowest = 0.0
    with tracking.stage("train", "ncsn", recording(place)) as run:
        for step in range(80):
            store.append(course[step // 20])
            begun = time.perf_counter()
            run.log_metrics({"loss": float(step)}, step)
            slowest = max(slowest, time.perf_counter() - begun)
            time.sleep(0.01)
    assert slowest < STEP_S
    store.append("up")
    while record_files(place.path):
        time.sleep(0.05)
    (stage,) = place.runs("stage")
    assert history(place, stage.info.run_id) == [(step, float(step)) for step in range(80)]
    assert stage.info.status == "FINISHED" and len(place.runs("pipeline")) == 1


def test_a_busy_store_is_asked_again_by_the_command(
    place: Place, store: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    killed(place, range(5), monkeypatch)
    store.append("down")
    monkeypatch.setattr(deliver, "PAUSE_S", 0.0)
    monkeypatch.setattr(shipping, "PAUSES_S", (0.25, 0.5, 0.75))
    told: list[float] = []

    def sleep(seconds: float) -> None:
        told.append(seconds)
        store.append("up" if len(told) == 2 else "down")

    monkeypatch.setattr(shipping.time, "sleep", sleep)
    command.main(["ship"])
    assert told == [0.25, 0.5]
    assert "no route to host" in caplog.text and "Trying again in 0.5 s." in caplog.text
    assert len(history(place, place.runs("stage")[0].info.run_id)) == 5


def test_a_store_that_holds_a_stage_up_is_told(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stage_run, "TELL_S", 0.0)
    with caplog.at_level("INFO"), tracking.stage("train", "ncsn", place.params):
        pass
    assert f"tracking: sqlite:///{place.path}/mlflow.db is slow, or held by another process" in caplog.text


def test_a_later_stage_of_a_pipeline_neither_waits_nor_fails(place: Place, store: list[str]) -> None:
    with tracking.stage("prepare", None, place.params):
        pass
    store.append("down")
    begun = time.monotonic()
    with tracking.stage("train", "ncsn", place.params) as run:
        assert time.monotonic() - begun < 1
        run.log_metrics({"loss": 1.0})
    assert len(shipping.ship(place.path, 0.1)) == 1
    store.append("up")
    assert len(place.runs("stage")) == 1


def test_the_command_delivers_or_says_why_not(place: Place, store: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    killed(place, range(5), monkeypatch)
    store.append("down")
    monkeypatch.setattr(shipping, "PAUSES_S", (0.1, 0.1))
    with pytest.raises(UserError, match=r"1 records wait in .*\.runs/tracking: .*no route to host"):
        command.main(["ship"])
    store.append("up")
    command.main(["ship"])
    assert len(history(place, place.runs("stage")[0].info.run_id)) == 5
    with pytest.raises(UserError, match=r"usage: python -m pipeline\.tracking ship"):
        command.main([])


def test_a_value_the_store_refuses_does_not_hold_up_the_others(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    with tracking.stage("train", "ncsn", place.params) as run:
        run.log_metrics({"a name that is refused!": 1.0})
        run.log_params({"train": {"steps": "another"}})
        run.log_metrics({"loss": math.nan}, 1)
        run.log_metrics({"loss": np.float32(2.0)}, 2)
    assert [step for step, _ in history(place, run.id)] == [1, 2]
    assert "2 records were refused, first log_metrics: sqlite" in caplog.text


def test_a_full_disk_under_the_record_is_told_once_and_stops_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, full = os.write, False

    def write(file: int, content: bytes) -> int:
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, content)

    monkeypatch.setattr(os, "write", write)
    with tracking.stage("train", "ncsn", place.params) as run:
        run.log_metrics({"loss": 1.0}, 1)
        full = True
        run.log_metrics({"loss": 2.0}, 2)
        run.log_metrics({"loss": 3.0}, 3)
        full = False
        run.log_metrics({"loss": 4.0}, 4)
    assert history(place, run.id) == [(1, 1.0), (4, 4.0)]
    assert caplog.text.count("No space left on device") == 1


def test_an_unreadable_state_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.state").write_text('{"offset": 1')
    assert RecordFile(tmp_path / "a.jsonl").delivered() == Delivered()
