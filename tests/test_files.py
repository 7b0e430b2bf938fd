"""Files are whole or absent."""

import json
from pathlib import Path

import pytest

from pipeline.files import (
    MOST_BYTES,
    MOST_DEPTH,
    at_home,
    in_a_copy,
    read_json,
    read_settings,
    sha256,
    whole_folder,
    write_json,
    write_text,
)
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


def nested(depth: int) -> str:
    return "a: " + "[" * (depth - 1) + "1" + "]" * (depth - 1)


def repeated(times: int) -> str:
    """A list of 1,000 zeros, and a list of the same list again and again."""
    return f"some: &some [{', '.join('0' * 1000)}]\nall: [{', '.join(['*some'] * times)}]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# " + "a" * MOST_BYTES, f"is larger than {MOST_BYTES} bytes"),
        (nested(MOST_DEPTH + 1), "more than 20 deep"),
        (repeated(110), "more than 100000 values"),
        (f"[{', '.join('0' * 100_001)}]", "more than 100000 values"),
        ("a: " + "1" * 5000, "is not valid YAML"),
        ("a: 2001-99-99", "is not valid YAML"),
    ],
    ids=["large", "deep", "repeated", "many", "number", "date"],
)
def test_settings_beyond_their_bounds_are_refused_by_name(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(UserError, match=rf"p\.yaml.*{message}"):
        read_settings(tmp_path / "p.yaml")


def test_settings_within_their_bounds_are_read_with_repeated_parts(tmp_path: Path) -> None:
    for text in (nested(MOST_DEPTH), repeated(90)):
        (tmp_path / "p.yaml").write_text(text)
        assert read_settings(tmp_path / "p.yaml")
    (tmp_path / "p.yaml").write_text("a: &a {k: 1}\nb: {<<: *a, j: 2}\nc: &c 3\nd: *c\n")
    assert read_settings(tmp_path / "p.yaml") == {"a": {"k": 1}, "b": {"k": 1, "j": 2}, "c": 3, "d": 3}


def test_settings_are_read_from_a_file_alone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing: run from the repository's root"):
        read_settings(tmp_path)


def test_a_path_begins_at_home_only_with_its_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert [at_home(path) for path in ("~/w", "~", "w~", "s3://a/~")] == ["/home/me/w", "/home/me", "w~", "s3://a/~"]
    with pytest.raises(UserError, match="~nobody-has-this-name: there is no such home folder"):
        at_home("~nobody-has-this-name")


def test_a_relative_path_is_explained_where_an_experiment_runs_in_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / ".dvc/tmp/exps/tmp123"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert "give an absolute path" in in_a_copy(Path("x.npz")) and in_a_copy(tmp_path / "x.npz") == ""
    monkeypatch.chdir(tmp_path)
    assert in_a_copy(Path("x.npz")) == ""
