"""Files are found, downloaded and verified; what is wrong with one is said with its name."""

import gzip
import hashlib
from pathlib import Path
from typing import Any

import pytest

from pipeline.data.catalogue import CATALOGUE
from pipeline.data.fetch import cache_folder, locate, verify
from pipeline.data.source import RawFile, Source
from pipeline.ncsn.errors import UserError
from tests.data.served import Server

CONTENT = bytes(range(256)) * 40
OTHER = CONTENT[:-1] + b"\0"


def raw(name: str = "data.bin.gz", **changes: Any) -> RawFile:
    return RawFile(name, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), **changes)


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
    """20 MB of zeros in 20 kB: given up at the published size."""
    (tmp_path / "data.bin.gz").write_bytes(gzip.compress(bytes(20_000_000), 6))
    file, read = raw(), 0

    class Counting:
        def update(self, data: bytes) -> None:
            nonlocal read
            read += len(data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.data.fetch.hashlib.sha256", Counting)
        with pytest.raises(UserError, match="has more than the 10240 bytes"):
            verify(file, tmp_path / "data.bin.gz")
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


def test_a_download_is_verified_and_kept(server: Server) -> None:
    root, url = server.root, server.url
    (root / "data.bin.gz").write_bytes(gzip.compress(CONTENT))
    entry = one(raw(urls=(f"{url}/data.bin.gz",)))
    (path,) = locate("x", entry, None)
    assert path == cache_folder("x") / "data.bin.gz"
    (root / "data.bin.gz").unlink()
    assert locate("x", entry, None) == [path], "the second time it is not asked for"
    assert [p.name for p in cache_folder("x").iterdir()] == ["data.bin.gz"]


def test_a_wrong_mirror_is_passed_over(server: Server) -> None:
    root, url = server.root, server.url
    (root / "bad").write_bytes(OTHER)
    (root / "good").write_bytes(CONTENT)
    (path,) = locate("x", one(raw(urls=(f"{url}/absent", f"{url}/bad", f"{url}/good"))), None)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("content", [OTHER, CONTENT[:-1], CONTENT * 300])
def test_a_bad_download_leaves_nothing(content: bytes, server: Server) -> None:
    root, url = server.root, server.url
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


def test_a_mirror_serves_the_files_by_their_names(server: Server, fashion: Any) -> None:
    """Its files may be packed otherwise: what counts is the content."""
    entry = CATALOGUE["fashion_mnist"]
    for file in entry.files:
        content = gzip.decompress((fashion.folder / file.name).read_bytes())
        (server.root / "pub").mkdir(exist_ok=True)
        (server.root / "pub" / file.name).write_bytes(gzip.compress(content, 1))
    found = locate("fashion_mnist", entry, f"{server.url}/pub/")
    assert [path.name for path in found] == [file.name for file in entry.files]
    assert {path.parent for path in found} == {cache_folder("fashion_mnist")}


def test_a_mirror_is_asked_for_what_its_authors_do_not_serve(server: Server, celeba: Any) -> None:
    for part in ("Img", "Eval", "Anno"):
        for path in (celeba.folder / part).iterdir():
            path.rename(server.root / path.name)
    assert len(locate("celeba", CATALOGUE["celeba"], server.url)) == 3


def test_a_wrong_mirror_names_its_address(server: Server, fashion: Any) -> None:
    (server.root / "train-images-idx3-ubyte.gz").write_bytes(b"other")
    with pytest.raises(UserError, match=f"{server.url}/train-images-idx3-ubyte.gz: .*has fewer than"):
        locate("fashion_mnist", CATALOGUE["fashion_mnist"], server.url)
