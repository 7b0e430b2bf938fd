"""Damaged records, refused lines and full disks: what is whole is delivered, what is not is reported."""

import errno
import json
import os
import random
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline import tracking
from pipeline.ncsn.errors import UserError
from pipeline.tracking import __main__ as command
from pipeline.tracking import mlflow_store, shipping, stage_run
from pipeline.tracking.record import (
    DAMAGED,
    REFUSED,
    Delivered,
    Line,
    RecordFile,
    encode,
    record_files,
    waiting,
)
from pipeline.tracking.stage_run import Book

from .conftest import Place
from .test_record import history, killed, recording

REFUSED_NAME = "a name that is refused!"


def losses(place: Place) -> list[tuple[int, float]]:
    (stage,) = place.runs("stage")
    return history(place, stage.info.run_id)


def test_a_new_kind_of_thing_is_one_method_and_one_function(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    class Noted(tracking.Run):
        def log_note(self, text: str, about: Path) -> None:
            self._record("log_note", text=text, about=about)

    def log_note(run: mlflow_store.StoredRun, text: str, about: Path) -> None:
        run.client.log_text(run.id, f"{text}: {about.read_text()}", "note.txt")

    monkeypatch.setitem(mlflow_store.CALLS, "log_note", log_note)
    (place.path / "about.txt").write_text("as it was")
    with tracking.stage("train", "ncsn", place.params) as run:
        Noted(run.sink).log_note("the file", Path("about.txt"))
        (place.path / "about.txt").unlink()
    found = place.client.download_artifacts(str(run.id), "note.txt")
    assert Path(found).read_text() == "the file: as it was"


def test_no_flipped_bit_alters_what_is_read(tmp_path: Path) -> None:
    record = RecordFile(tmp_path / "a.jsonl")
    written = [encode(k, (k,), "log_metrics", {"values": {"loss": 0.5 + k}, "step": k}) for k in range(3)]
    content = b"".join(written)
    record.path.write_bytes(content)
    whole = record.lines()
    told = {line[2:] for line in map(hashable, whole)}
    for where in range(len(content)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[where] ^= 1 << bit
            record.path.write_bytes(flipped)
            read = record.lines()
            right = [line for line in read if line.call != DAMAGED]
            assert {line[2:] for line in map(hashable, right)} <= told
            newline = content[where : where + 1] == b"\n"
            assert len(right) == (3 if where == len(content) - 1 else 1 if newline else 2)
            assert len(right) == 3 or len(read) > len(right)


def hashable(line: Line) -> tuple[object, ...]:
    return (line.start, line.end, line.at, line.address, line.call, str(line.arguments), line.once)


@pytest.mark.parametrize("seed", range(3))
def test_a_flipped_bit_costs_one_line_and_is_reported(
    place: Place, monkeypatch: pytest.MonkeyPatch, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = killed(place, range(40), monkeypatch).record.path
    content, chosen = bytearray(path.read_bytes()), random.Random(seed)
    where = chosen.randrange(content.index(b"\n") + 1, len(content) - 1)
    content[where] ^= 1 << chosen.randrange(8)
    path.write_bytes(content)
    assert shipping.ship(place.path) == []
    arrived = losses(place)
    assert len(arrived) >= 38 and {*arrived} <= {(step, 10.0 - step) for step in range(40)}
    (stage,) = place.runs("stage")
    lost = 40 - len(arrived) + (stage.data.tags.get("reached") != "40")
    assert lost == 0 or "is damaged" in caplog.text
    assert "is damaged" in caplog.text and "is damaged" in (place.path / REFUSED).read_text()
    caplog.clear()
    with tracking.stage("prepare", None, place.params):
        pass
    assert "of earlier stages were refused, first" in caplog.text and "is damaged" in caplog.text
    caplog.clear()
    with tracking.stage("prepare", None, place.params):
        pass
    assert "refused" not in caplog.text, "reported once"


@pytest.mark.parametrize("where", [0, 100])
def test_a_record_without_its_first_line_is_kept_aside_and_holds_up_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch, where: int
) -> None:
    first = killed(place, range(5), monkeypatch).record
    content = bytearray(first.path.read_bytes())
    content[where] ^= 1
    first.path.write_bytes(content)
    killed(place, range(3), monkeypatch)
    command.main(["ship"])
    assert len(losses(place)) == 3
    aside = first.path.with_suffix(".damaged")
    assert aside.read_bytes() == content and str(aside) in (place.path / REFUSED).read_text()


def lacking(line: bytes, key: str) -> bytes:
    """A line with a right checksum whose arguments lack a key."""
    said = json.loads(line[9:])
    del said["arguments"][key]
    return encode(said["at"], said["run"], said["call"], said["arguments"])


@pytest.mark.parametrize(
    ("call", "key", "runs"),
    [
        ("begin", "uri", 1),
        ("begin", "pipeline", 1),
        ("child", "number", 2),
        ("log_metrics", "values", 2),
        ("set_tags", "tags", 2),
    ],
)
def test_a_line_that_lacks_a_key_stops_no_other(
    place: Place, monkeypatch: pytest.MonkeyPatch, call: str, key: str, runs: int
) -> None:
    path = killed(place, range(5), monkeypatch).record.path
    lines = path.read_bytes().splitlines(keepends=True)
    (number, *_) = [n for n, line in enumerate(lines) if json.loads(line[9:])["call"] == call]
    lines[number] = lacking(lines[number], key)
    path.write_bytes(b"".join(lines))
    with tracking.stage("prepare", None, place.params) as other:
        assert other.id
    while waiting(place.path):
        time.sleep(0.05)
    assert len(place.runs("stage")) == runs
    assert call in (place.path / REFUSED).read_text() or path.with_suffix(".damaged").exists()


def test_a_call_that_nobody_knows_is_refused(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    with tracking.stage("train", "ncsn", place.params) as run:
        run.sink.write((), "log_later", {"a": 1})
        run.sink.write((), DAMAGED, {})
        run.log_metrics({"loss": 1.0}, 1)
    assert losses(place) == [(1, 1.0)]
    assert "2 records were refused, first log_later: sqlite" in caplog.text


def test_a_refused_value_does_not_spoil_its_neighbours(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    book = killed(place, range(0), monkeypatch)
    with book.record.open() as file:
        for step, name in enumerate(("loss", REFUSED_NAME, "loss")):
            file.write(encode(step, (), "log_metrics", {"values": {name: 1.0}, "step": step}))
    assert shipping.ship(place.path) == []
    assert losses(place) == [(0, 1.0), (2, 1.0)]


def test_a_question_that_the_store_refuses_is_answered_at_once(place: Place) -> None:
    with tracking.stage("train", "ncsn", place.params) as run:
        assert run.find({"preset": "o'br\"ien"}) is None
        assert run.tags_of("no id") == {}


@pytest.mark.parametrize("preset", ["o'brien", 'the "best"', "100%", "a`b"])
def test_a_value_with_a_quote_is_found(place: Place, preset: str) -> None:
    params = place.params.model_copy(update={"preset": preset})
    with tracking.stage("train", "ncsn", params) as first:
        assert first.find({"preset": preset}) is None
    with tracking.stage("train", "ncsn", params) as run:
        assert run.find({"preset": preset, "stage": "train"}) == first.id


def test_a_changed_state_is_none(tmp_path: Path) -> None:
    record = RecordFile(tmp_path / "a.jsonl")
    record.acknowledge(Delivered(offset=1234))
    assert record.delivered().offset == 1234
    state = tmp_path / "a.state"
    state.write_bytes(state.read_bytes().replace(b"1234", b"1274"))
    assert record.delivered() == Delivered()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Leave the disk under the record so many bytes; None: as many as are asked for."""
    room: list[int | None] = [None]
    real = os.write

    def write(file: int, content: bytes) -> int:
        left = room[-1]
        if left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real(file, content[:left])
        room.append(None if left is None else left - written)
        return written

    monkeypatch.setattr(os, "write", write)
    return room.append


@pytest.mark.parametrize("left", [0, 1, 50])
def test_a_short_write_leaves_no_half_of_a_line(
    place: Place, disk: Callable[[int | None], None], caplog: pytest.LogCaptureFixture, left: int
) -> None:
    with tracking.stage("train", "ncsn", place.params) as run:
        run.log_metrics({"loss": 1.0}, 1)
        disk(left)
        for step in range(2, 5):
            run.log_metrics({"loss": float(step)}, step)
        assert isinstance(run.sink, Book)
        assert run.sink.record.path.read_bytes().endswith(b"}\n")
        assert run.find({"stage": "prepare"}) is None, "a question that was not written is not waited for"
        disk(None)
        run.log_metrics({"loss": 5.0}, 5)
    assert losses(place) == [(1, 1.0), (5, 5.0)]
    assert caplog.text.count("No space left on device") == 1
    assert "4 calls could not be written to the record, and are lost" in caplog.text
    assert not (place.path / REFUSED).exists()


def test_half_a_copy_of_a_file_is_not_delivered(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(source: str, target: str) -> None:
        Path(target).write_text("ha")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (place.path / "a.txt").write_text("half")
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError(errno.EXDEV, "another disk")))
    monkeypatch.setattr("shutil.copy2", full)
    with tracking.stage("train", "ncsn", place.params) as run:
        run.log_artifact(Path("a.txt"))
    assert place.client.list_artifacts(str(run.id)) == []
    assert "cannot keep a.txt until it is delivered" in caplog.text and "a.txt is gone" in caplog.text


def test_a_disk_that_is_full_at_the_start_is_named(
    place: Place, disk: Callable[[int | None], None], caplog: pytest.LogCaptureFixture
) -> None:
    disk(0)
    with (
        pytest.raises(UserError, match=r"\.runs/tracking: No space left on device\. Free space"),
        tracking.stage("train", "ncsn", place.params),
    ):
        raise AssertionError("the work began")
    with tracking.stage("train", "ncsn", recording(place)) as run:
        run.log_metrics({"loss": 1.0})
        assert run.id is None
    assert "Nothing of this stage is recorded" in caplog.text
    assert record_files(place.path) == []


@pytest.mark.parametrize("starts", [False, True], ids=["no process starts", "no state is written"])
def test_a_disk_that_fills_up_before_the_run_has_begun_is_named(
    place: Place, monkeypatch: pytest.MonkeyPatch, starts: bool
) -> None:
    monkeypatch.setattr(stage_run, "TELL_S", 0.1)
    monkeypatch.setattr(shipping, "ensure", lambda root: starts)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=4096))
    with (
        pytest.raises(UserError, match=r"the disk of .*\.runs/tracking is full: free space there"),
        tracking.stage("train", "ncsn", place.params),
    ):
        raise AssertionError("the work began")
    assert record_files(place.path) == []


def test_a_process_that_does_not_start_is_quoted(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(root: Path) -> bool:
        (root / shipping.LOG).write_text("Traceback\nImportError: no mlflow\n")
        return False

    monkeypatch.setattr(shipping, "ensure", failing)
    with (
        pytest.raises(UserError, match=r"tracking does not start \(ImportError: no mlflow\): see .*shipper\.log"),
        tracking.stage("train", "ncsn", place.params),
    ):
        raise AssertionError("the work began")


def test_a_full_disk_keeps_the_state_that_it_has_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = RecordFile(tmp_path / "a.jsonl")
    record.acknowledge(Delivered(offset=1000, problem="a longer one"))

    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    record.acknowledge(Delivered(offset=2000))
    assert record.delivered() == Delivered(offset=2000)


def test_a_line_is_readable_and_its_checksum_is_that_of_the_text() -> None:
    line = encode(5, (0, 1), "log_artifact", {"path": Path("a/b")}, "once")
    checksum, text = line[:8], line[9:-1]
    assert int(checksum, 16) == zlib.crc32(text)
    assert json.loads(text) == {
        "at": 5,
        "run": [0, 1],
        "call": "log_artifact",
        "arguments": {"path": {"$path": "a/b"}},
        "once": "once",
    }
