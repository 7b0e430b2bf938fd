"""A download is whole and accepted or it is not there; what has come of it is not asked for again."""

import fcntl
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.download import BROKEN, download
from pipeline.ncsn.errors import UserError
from tests.data.served import Server

CONTENT = np.random.default_rng(0).bytes(3_000_000)


def fetch(server: Server, folder: Path, largest: int = len(CONTENT)) -> Path:
    def accept(path: Path) -> None:
        if path.read_bytes() != CONTENT:
            raise UserError("another content")

    return download(f"{server.url}/data", folder / "data", largest=largest, accept=accept)


@pytest.fixture
def folder(server: Server, tmp_path: Path) -> Path:
    """Where downloads go; the server has the content."""
    (server.root / "data").write_bytes(CONTENT)
    return tmp_path / "kept"


def parts(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.endswith(".part")]


def interrupted(server: Server, folder: Path, after: int = 1_200_000) -> None:
    """A first attempt that breaks off."""
    server.break_after = after
    with pytest.raises(BROKEN, match=f"after {after} of {len(CONTENT)} bytes"):
        fetch(server, folder)
    assert not (folder / "data").exists()


def test_an_interrupted_download_goes_on_where_it_ended(server: Server, folder: Path) -> None:
    interrupted(server, folder)
    assert fetch(server, folder).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1200000-"]
    assert [path.name for path in folder.iterdir()] == ["data"]


def test_it_may_break_off_many_times(server: Server, folder: Path) -> None:
    interrupted(server, folder, 1_000_000)
    server.break_after = 1_000_000
    with pytest.raises(BROKEN, match="after 2000000 of 3000000 bytes"):
        fetch(server, folder)
    assert fetch(server, folder).read_bytes() == CONTENT


def test_a_server_without_ranges_is_read_from_the_start(server: Server, folder: Path) -> None:
    interrupted(server, folder)
    server.ranges = False
    assert fetch(server, folder).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_whole_part_needs_nothing_more(server: Server, folder: Path) -> None:
    """The process ended between the last byte and the rename."""
    interrupted(server, folder)
    parts(folder)[0].write_bytes(CONTENT)
    assert fetch(server, folder).read_bytes() == CONTENT
    assert server.asked[1:] == [f"bytes={len(CONTENT)}-"], "refused by the server: no byte is missing"


@pytest.mark.parametrize("kept", [b"x" * 1_200_000, CONTENT + b"longer"])
def test_a_part_of_another_file_is_given_up(kept: bytes, server: Server, folder: Path) -> None:
    interrupted(server, folder)
    parts(folder)[0].write_bytes(kept)
    assert fetch(server, folder).read_bytes() == CONTENT
    assert server.asked[-1] is None, "asked for anew"


def test_each_address_has_a_part_of_its_own(server: Server, folder: Path) -> None:
    """A mirror may pack the same content into other bytes."""
    interrupted(server, folder)
    (server.root / "mirror").write_bytes(CONTENT)
    download(f"{server.url}/mirror", folder / "data", largest=len(CONTENT), accept=lambda path: None)
    assert server.asked == [None, None]
    assert (folder / "data").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("length", "message"),
    [(True, "it has 3000000 bytes, more than the 1000"), (False, "more than the 1000 bytes came")],
    ids=["announced", "unannounced"],
)
def test_too_much_is_given_up(length: bool, message: str, server: Server, folder: Path) -> None:
    server.length = length
    with pytest.raises(UserError, match=message):
        fetch(server, folder, largest=1000)
    assert not list(folder.iterdir())


def test_what_is_refused_leaves_nothing(server: Server, folder: Path) -> None:
    (server.root / "data").write_bytes(CONTENT[:-1] + b"\0")
    with pytest.raises(UserError, match="another content"):
        fetch(server, folder)
    assert not list(folder.iterdir())


def test_no_answer_leaves_nothing(server: Server, folder: Path) -> None:
    (server.root / "data").unlink()
    with pytest.raises(BROKEN, match="404"):
        fetch(server, folder)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("url", ["http://example.org/data", "file:///etc/hostname", "ftp://example.org/data"])
def test_only_https_is_read(url: str, server: Server, folder: Path) -> None:
    with pytest.raises(UserError, match=f"{url} is refused: only https"):
        download(url, folder / "data", largest=10, accept=lambda path: None)
    server.redirect = url
    with pytest.raises((UserError, *BROKEN), match=f"{url} is refused: only https|{url}' is not allowed"):
        fetch(server, folder)


def test_two_processes_do_not_write_one_part(server: Server, folder: Path) -> None:
    interrupted(server, folder)
    with parts(folder)[0].open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is downloading"):
            fetch(server, folder)
    assert fetch(server, folder).read_bytes() == CONTENT
