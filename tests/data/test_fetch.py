"""Files are found, downloaded and verified; what is wrong with one is said with its name."""

import gzip
import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.data.catalogue import CATALOGUE
from pipeline.data.fetch import cache_folder, locate, verify
from pipeline.data.source import RawFile, Source
from pipeline.errors import UserError

CONTENT = bytes(range(256)) * 40
OTHER = CONTENT[:-1] + b"\0"


def raw(name: str = "data.bin.gz", **changes: Any) -> RawFile:
    return RawFile(name, hashlib.sha256(CONTENT).hexdigest(), **{"size": len(CONTENT), **changes})


def one(file: RawFile) -> Source:
    return Source("t", "l", "https://example.org/home", lambda paths, size: None, None, files=(file,))  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("level", [0, 1, 9])
def test_content_verifies_however_it_is_compressed(level: int, tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(CONTENT, level))
    (tmp_path / "a").write_bytes(CONTENT)
    verify(raw(), tmp_path / "a.gz")
    verify(raw(), tmp_path / "a")


BROKEN = {
    "one byte differs": (OTHER, "is not the published data.bin.gz: its sha256 is"),
    "cut": (CONTENT[:-1], "has fewer than the 10240 bytes"),
    "longer": (CONTENT + b"x", "has more than the 10240 bytes"),
    "empty": (b"", "has fewer"),
    "gzip cut": (gzip.compress(CONTENT)[:-9], "cannot be read"),
    "gzip damaged": (gzip.compress(CONTENT)[:60] + bytes(8) + gzip.compress(CONTENT)[68:], "cannot be read"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_another_content_is_refused(case: str, tmp_path: Path) -> None:
    content, message = BROKEN[case]
    (tmp_path / "data.bin").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        verify(raw(), tmp_path / "data.bin")
    assert str(tmp_path / "data.bin") in str(caught.value)
    assert "put the right file there" in str(caught.value)


def test_a_gzip_bomb_is_not_unpacked_to_its_end(tmp_path: Path) -> None:
    """100 MB of zeros in 100 kB: given up at the published size."""
    (tmp_path / "data.bin.gz").write_bytes(gzip.compress(bytes(100_000_000), 6))
    read = 0

    class Counting:
        def __init__(self, *arguments: Any) -> None:
            self.hash = hashlib.sha256()

        def update(self, data: bytes) -> None:
            nonlocal read
            read += len(data)

        def hexdigest(self) -> str:
            return ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.data.fetch.hashlib.new", lambda *a, **k: Counting())
        with pytest.raises(UserError, match="has more than the 10240 bytes"):
            verify(raw(), tmp_path / "data.bin.gz")
    assert read < 2 << 20


def test_a_folder_may_hold_the_files_unpacked(tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(CONTENT)
    assert locate("x", one(raw()), str(tmp_path)) == [tmp_path / "data.bin"]


def test_the_only_file_may_be_named_itself(tmp_path: Path) -> None:
    (tmp_path / "renamed").write_bytes(CONTENT)
    assert locate("x", one(raw()), str(tmp_path / "renamed")) == [tmp_path / "renamed"]


def test_every_missing_file_is_named_at_once_with_its_place_and_origin(fashion: Any) -> None:
    entry = CATALOGUE["fashion_mnist"]
    for file in entry.files[1:3]:
        (fashion.folder / file.name).unlink()
    with pytest.raises(UserError) as caught:
        locate("fashion_mnist", entry, str(fashion.folder))
    for file in entry.files:
        assert (file.name in str(caught.value)) == (file in entry.files[1:3])
    for part in (
        str(fashion.folder),
        "data.source",
        entry.files[1].urls[0],
        entry.homepage,
        "dataset-fashion-mnist",
    ):
        assert part in str(caught.value)


def test_a_source_that_does_not_exist_is_named(tmp_path: Path) -> None:
    for name in ("cifar10", "folder"):
        with pytest.raises(UserError, match=r"data\.source: .*/nowhere does not exist"):
            locate(name, CATALOGUE[name], str(tmp_path / "nowhere"))


def test_a_users_own_source_needs_a_path() -> None:
    with pytest.raises(UserError, match=r"data\.source: null, but data\.name: npz"):
        locate("npz", CATALOGUE["npz"], None)


def test_a_package_comes_before_a_download(fashion: Any, tmp_path: Path) -> None:
    fashion.folder.rename(tmp_path / "packaged")
    found = locate("fashion_mnist", CATALOGUE["fashion_mnist"], None)
    assert {path.parent for path in found} == {tmp_path / "packaged"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the URL under which it is served."""
    root = tmp_path / "served"
    root.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            """Keep the tests' output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root))) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield root, f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_a_download_is_verified_and_kept(server: tuple[Path, str]) -> None:
    root, url = server
    (root / "data.bin.gz").write_bytes(gzip.compress(CONTENT))
    entry = one(raw(urls=(f"{url}/data.bin.gz",)))
    (path,) = locate("x", entry, None)
    assert path == cache_folder("x") / "data.bin.gz"
    (root / "data.bin.gz").unlink()
    assert locate("x", entry, None) == [path], "the second time it is not asked for"
    assert [p.name for p in cache_folder("x").iterdir()] == ["data.bin.gz"]


def test_a_wrong_mirror_is_passed_over(server: tuple[Path, str]) -> None:
    root, url = server
    (root / "bad").write_bytes(OTHER)
    (root / "good").write_bytes(CONTENT)
    (path,) = locate("x", one(raw(urls=(f"{url}/absent", f"{url}/bad", f"{url}/good"))), None)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("content", [OTHER, CONTENT[:-1], CONTENT * 300])
def test_a_bad_download_leaves_nothing(content: bytes, server: tuple[Path, str]) -> None:
    root, url = server
    (root / "data.bin.gz").write_bytes(content)
    with pytest.raises(UserError, match="could not be downloaded"):
        locate("x", one(raw(urls=(f"{url}/data.bin.gz",))), None)
    assert not list(cache_folder("x").iterdir())


def test_offline_says_which_file_where_and_from_where() -> None:
    url = "http://127.0.0.1:9/data.bin.gz"
    with pytest.raises(UserError) as caught:
        locate("x", one(raw(urls=(url,))), None)
    for part in (
        "data.bin.gz is missing",
        "refused",
        url,
        str(cache_folder("x")),
        "data.source",
        "example.org/home",
    ):
        assert part in str(caught.value)


def test_what_has_no_url_is_to_be_fetched_by_hand() -> None:
    with pytest.raises(UserError, match="has to be fetched by hand") as caught:
        locate("celeba", CATALOGUE["celeba"], None)
    for file in CATALOGUE["celeba"].files:
        assert file.name in str(caught.value)


def test_a_damaged_cache_is_told_not_trusted() -> None:
    cache_folder("x").mkdir(parents=True)
    (cache_folder("x") / "data.bin.gz").write_bytes(OTHER)
    with pytest.raises(UserError, match="is not the published"):
        locate("x", one(raw()), None)
