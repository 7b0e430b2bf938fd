"""What travels through the storage arrives as it was sent, or not at all."""

import hashlib
import json
from pathlib import Path

import pytest

from pipeline.cluster import job
from pipeline.cluster.box import Box
from pipeline.ncsn.errors import UserError

SENT = ("data", "b")


@pytest.fixture
def parcel(tmp_path: Path) -> tuple[Box, Path]:
    """A box with one parcel of two files, sent from a folder."""
    source = tmp_path / "source"
    (source / "data" / "deep").mkdir(parents=True)
    (source / "data" / "deep" / "a").write_bytes(b"a" * 3_000_000)
    (source / "b").write_bytes(b"")
    (source / "unsent").touch()
    box = Box((tmp_path / "storage").as_uri(), "box")
    box.push("inputs", source, ["data", "b"])
    return box, tmp_path / "storage" / "box" / "inputs"


def test_a_parcel_arrives_as_it_was_sent(parcel: tuple[Box, Path], tmp_path: Path) -> None:
    box, place = parcel
    assert set(box.pull("inputs", tmp_path / "target", SENT)) == {"data/deep/a", "b"}
    assert (tmp_path / "target/data/deep/a").read_bytes() == b"a" * 3_000_000
    assert (tmp_path / "target/b").read_bytes() == b"" and not (tmp_path / "target/unsent").exists()
    box.delete()
    assert not place.parent.exists()
    box.delete()


def test_a_flipped_bit_is_noticed(parcel: tuple[Box, Path], tmp_path: Path) -> None:
    box, place = parcel
    content = bytearray((place / "data/deep/a").read_bytes())
    content[12_345] ^= 1
    (place / "data/deep/a").write_bytes(content)
    with pytest.raises(UserError, match="data/deep/a was damaged"):
        box.pull("inputs", tmp_path / "target", SENT)


@pytest.mark.parametrize("lost", ["manifest.json", "data/deep/a"])
def test_a_parcel_that_is_not_whole_is_not_believed(lost: str, parcel: tuple[Box, Path], tmp_path: Path) -> None:
    box, place = parcel
    (place / lost).unlink()
    with pytest.raises(UserError, match=r"compute\.job_storage .* cannot be read"):
        box.pull("inputs", tmp_path / "target", SENT)


def test_what_is_not_there_cannot_be_sent(parcel: tuple[Box, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none is missing"):
        parcel[0].push("inputs", tmp_path, ["none"])


def test_unusable_storage_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"compute\.job_storage 'ftp://x/y'"):
        Box("ftp://x/y", "box")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"compute\.job_storage .* cannot be written"):
        Box(str(tmp_path / "file"), "box").push("inputs", tmp_path, ["file"])


@pytest.mark.parametrize(
    "name",
    [
        "elsewhere",
        "../elsewhere",
        "data/../elsewhere",
        "data/./a",
        "data//a",
        "database",
        "b/",
        "/elsewhere",
        "{absolute}/elsewhere",
        "pipeline/elsewhere.py",
        "",
    ],
)
def test_a_parcel_that_names_another_place_is_refused_and_nothing_of_it_is_written(
    name: str, parcel: tuple[Box, Path], tmp_path: Path
) -> None:
    box, place = parcel
    name = name.format(absolute=tmp_path)
    hashes = json.loads((place / "manifest.json").read_text())
    (place / "manifest.json").write_text(json.dumps({**hashes, name: hashlib.sha256(b"").hexdigest()}))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as caught:
        box.pull("inputs", tmp_path / "target", SENT)
    assert f"with {name!r}, which is none of data, b: nothing was written" in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("content", ["", "[]", "no JSON"])
def test_a_manifest_that_is_none_is_named(content: str, parcel: tuple[Box, Path], tmp_path: Path) -> None:
    box, place = parcel
    (place / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"manifest\.json was damaged in compute\.job_storage"):
        box.pull("inputs", tmp_path / "target", SENT)


def test_an_output_that_did_not_come_leaves_all_as_they_were(
    parcel: tuple[Box, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("b").write_text("of the last run")
    parcel[0].push("outputs", tmp_path / "source", ["b"])
    with pytest.raises(UserError, match="the job sent nothing of data: run again"):
        job._place(parcel[0], ["b", "data"], [])
    assert Path("b").read_text() == "of the last run"
    job._place(parcel[0], ["b"], ["notes.jsonl"])
    assert Path("b").read_text() == "" and not Path("notes.jsonl").exists()


def test_keys_in_the_address_are_refused_and_not_repeated() -> None:
    with pytest.raises(UserError, match=r"'s3://\*\*\*@bucket/path' holds keys.*AWS_SECRET_ACCESS_KEY") as caught:
        Box("s3://AKIA:opensesame@bucket/path", "box")
    assert "opensesame" not in str(caught.value)


def test_a_job_is_told_where_a_store_is_and_not_how_to_get_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.lab:9000")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "opensesame")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://me:opensesame@store.lab:9000")
    assert job._where() == {"AWS_ENDPOINT_URL": "http://store.lab:9000", "AWS_REGION": "eu-west-1"}
