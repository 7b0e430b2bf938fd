"""Tiny data sets in the exact formats of the real ones, entered in the catalogue for a test's duration."""

import dataclasses
import gzip
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.catalogue import CATALOGUE
from pipeline.data.source import RawFile
from tests.data.formats import encoded, idx, tarred, zipped
from tests.data.served import Server, serving

Register = Callable[..., None]


def published(file: RawFile, data: bytes) -> RawFile:
    """The catalogue's entry if `data` were what the authors publish."""
    return dataclasses.replace(file, sha256=hashlib.sha256(data).hexdigest(), size=len(data))


@pytest.fixture(autouse=True)
def no_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No data set of this machine, no cache of its user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    entry = dataclasses.replace(CATALOGUE["fashion_mnist"], packaged=lambda: tmp_path / "packaged")
    monkeypatch.setitem(CATALOGUE, "fashion_mnist", entry)


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Make the catalogue expect these contents, in its order, for a source's files."""

    def register(name: str, *contents: bytes) -> None:
        entry = CATALOGUE[name]
        files = [published(file, data) for file, data in zip(entry.files, contents, strict=True)]
        monkeypatch.setitem(CATALOGUE, name, dataclasses.replace(entry, files=tuple(files)))

    return register


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of the folder `served`."""
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served") as running:
        yield running


@dataclasses.dataclass(frozen=True)
class Made:
    """A tiny data set on disk and what must come out of it: train then test."""

    folder: Path
    images: np.ndarray
    labels: np.ndarray
    test: int


@pytest.fixture
def fashion(tmp_path: Path, publish: Register) -> Made:
    """7 training and 3 test images as gzipped IDX files."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (10, 28, 28), np.uint8)
    labels = draw.integers(0, 10, 10).astype(np.uint8)
    contents = [idx(a) for a in (images[:7], labels[:7], images[7:], labels[7:])]
    publish("fashion_mnist", *contents)
    folder = tmp_path / "fashion"
    folder.mkdir()
    for file, data in zip(CATALOGUE["fashion_mnist"].files, contents, strict=True):
        (folder / file.name).write_bytes(gzip.compress(data))
    return Made(folder, images[:, None], labels.astype(np.int64), 3)


@pytest.fixture
def cifar(tmp_path: Path, publish: Register) -> Made:
    """Five batches of 2 and a test batch of 3, with the archive's members in another order."""
    draw = np.random.default_rng(1)
    images = draw.integers(0, 256, (13, 3, 32, 32), np.uint8)
    labels = draw.integers(0, 10, 13).astype(np.uint8)
    records = np.concatenate([labels[:, None], images.reshape(13, -1)], axis=1)
    members = {f"cifar-10-batches-bin/data_batch_{n + 1}.bin": records[2 * n : 2 * n + 2].tobytes() for n in range(5)}
    members["cifar-10-batches-bin/test_batch.bin"] = records[10:].tobytes()
    folder = tmp_path / "cifar"
    folder.mkdir()
    data = tarred(dict(reversed(members.items())))
    (folder / "cifar-10-binary.tar.gz").write_bytes(data)
    publish("cifar10", data)
    return Made(folder, images, labels.astype(np.int64), 3)


@pytest.fixture
def celeba(tmp_path: Path, publish: Register) -> Made:
    """Eight faces in the published layout; each is grey but for a colour of its own in the central square."""
    colours = np.arange(24, dtype=np.uint8).reshape(8, 3) * 10
    parts = [0, 2, 0, 1, 0, 2, 0, 1]
    faces = {}
    for n, colour in enumerate(colours, 1):
        face = np.full((218, 178, 3), 128, np.uint8)
        face[39:179, 19:159] = colour
        faces[f"{n:06}.png"] = encoded(face)
    folder = tmp_path / "celeba"
    for name in ("Img", "Eval", "Anno"):
        (folder / name).mkdir(parents=True)
    members = {f"img_align_celeba/{name}": data for name, data in faces.items()}
    (folder / "Img/img_align_celeba.zip").write_bytes(zipped(members))
    lines = [f"{name} {part}\n" for name, part in zip(faces, parts, strict=True)]
    (folder / "Eval/list_eval_partition.txt").write_text("".join(lines))
    signs = [("-1", "1")[n >> 1 & 1] + "  " + ("-1", "1")[n & 1] for n in range(8)]  # Male, Smiling of face n
    rows = [f"{name} -1 {sign}\n" for name, sign in zip(faces, signs, strict=True)]
    (folder / "Anno/list_attr_celeba.txt").write_text("8\nYoung Male Smiling \n" + "".join(rows))
    republish(folder, publish)
    order = [0, 2, 4, 6, 1, 5]  # train, then test; validation left out
    images = np.broadcast_to(colours[order][:, :, None, None], (6, 3, 64, 64))
    return Made(folder, images, np.array(order) % 4, 2)


def republish(folder: Path, publish: Register) -> None:
    names = ("Img/img_align_celeba.zip", "Eval/list_eval_partition.txt", "Anno/list_attr_celeba.txt")
    publish("celeba", *[(folder / name).read_bytes() for name in names])


@pytest.fixture
def republish_celeba(publish: Register) -> Callable[[Path], None]:
    """After a change to CelebA's files: make the catalogue expect what is there now."""
    return lambda folder: republish(folder, publish)
