"""Files are whole or absent."""

import json
from pathlib import Path

import pytest

from pipeline.files import read_json, sha256, whole_folder, write_json, write_text
from pipeline.ncsn.errors import UserError


def test_sha256_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_write_replaces_the_whole_and_leaves_nothing_beside(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "a", "old and longer")
    write_text(tmp_path / "deep" / "a", "new")
    assert (tmp_path / "deep" / "a").read_text() == "new"
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a"]


def test_a_value_that_json_cannot_hold_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"fid": 1.0})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"fid": float("nan")})
    assert read_json(tmp_path / "a.json") == {"fid": 1.0}


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "out") as part:
        (part / "a").write_text("good")

    def interrupted() -> None:
        with whole_folder(tmp_path / "out") as part:
            (part / "a").write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        interrupted()
    assert (tmp_path / "out" / "a").read_text() == "good"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(("content", "message"), [(None, "is missing"), ("{", "not valid JSON")])
def test_read_names_the_file_and_the_mend(content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read_json(path)
    assert str(path) in str(caught.value) and "dvc repro" in str(caught.value)


def test_json_round_trip(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None], "b": {"c": "d"}}
    write_json(tmp_path / "v.json", value)
    assert json.loads((tmp_path / "v.json").read_text()) == read_json(tmp_path / "v.json") == value
