"""The prepared form: whole or absent, the same on every machine, and nothing in it believed unverified."""

import errno
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.dataset import open_dataset
from pipeline.data.preparation import prepare
from pipeline.ncsn.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 1, 4, 4), np.uint8)
LABELS = np.arange(20) % 3


def save(folder: Path, images: np.ndarray = IMAGES, labels: np.ndarray = LABELS) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "in.npz", images=images, labels=labels)
    return str(folder / "in.npz")


def make(folder: Path, **changes: Any) -> dict[str, Any]:
    given = {"name": "npz", "source": save(folder), "image_size": 4, "num_held_out": 6, "seed": 0, **changes}
    return prepare(folder / "out", **given)


def test_manifest_says_what_the_arrays_are(tmp_path: Path) -> None:
    manifest = make(tmp_path)
    data = open_dataset(tmp_path / "out")
    assert manifest == data.manifest == json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["shape"] == list(data.images.shape) == [20, 1, 4, 4]
    assert manifest["dtype"] == str(data.images.dtype) == "uint8"
    assert manifest["classes"] == 3
    assert manifest["range"] == "pixel value v stands for v / 255, in [0, 1]"
    assert data.sha256 == manifest["sha256"]["images"]
    train = data.split("train").reshape(14, -1) / 255
    distances = np.linalg.norm(train[:, None] - train[None], axis=-1)
    assert manifest["max_pairwise_distance"] == pytest.approx(distances.max(), rel=1e-12)
    assert data.labels.dtype == np.int64


@given(held_out=st.integers(1, 19), seed=st.integers(0, 2**31 - 1))
@settings(max_examples=25, deadline=None)
def test_split_is_a_partition_that_keeps_the_order(
    tmp_path_factory: pytest.TempPathFactory, held_out: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("split")
    held = make(folder, num_held_out=held_out, seed=seed)["split"]["held_out_source_rows"]
    assert len(set(held)) == held_out and held == sorted(held)
    train = np.setdiff1d(np.arange(20), held)
    data = open_dataset(folder / "out")
    np.testing.assert_array_equal(data.split("train"), IMAGES[train])
    np.testing.assert_array_equal(data.split("held_out"), IMAGES[held])
    np.testing.assert_array_equal(data.split_labels("train"), LABELS[train])
    np.testing.assert_array_equal(data.split_labels("held_out"), LABELS[held])


def test_every_image_is_held_out_equally_often(tmp_path: Path) -> None:
    """Over 200 seeds each of 20 images falls into 6 held-out places about 60 times (sd 6.5)."""
    held = [make(tmp_path, seed=seed)["split"]["held_out_source_rows"] for seed in range(200)]
    counts = np.bincount(np.concatenate(held), minlength=20)
    assert counts.min() > 60 - 5 * 6.5 and counts.max() < 60 + 5 * 6.5


def test_own_split_gives_way_to_a_number(fashion: Any, tmp_path: Path) -> None:
    arguments = {"name": "fashion_mnist", "source": str(fashion.folder), "image_size": 28, "seed": 3}
    manifest = prepare(tmp_path / "out", num_held_out=4, **arguments)
    held = manifest["split"]["held_out_source_rows"]
    np.testing.assert_array_equal(open_dataset(tmp_path / "out").split("held_out"), fashion.images[held])
    assert manifest["split"]["train"] == [0, 6] and manifest["split"]["seed"] == 3


def test_two_runs_and_two_places_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make(tmp_path / name)
    for file in ("images.npy", "labels.npy", "manifest.json"):
        assert (tmp_path / "a/out" / file).read_bytes() == (tmp_path / "b/out" / file).read_bytes()


def test_images_cannot_be_written_to(tmp_path: Path) -> None:
    make(tmp_path)
    images = open_dataset(tmp_path / "out").split("train")
    assert isinstance(images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def flip_bit(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def in_manifest(text: str) -> Callable[[Path], None]:
    return lambda out: flip_bit(out / "manifest.json", (out / "manifest.json").read_text().index(text) + len(text))


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "a pixel": (lambda out: flip_bit(out / "images.npy", -1), "images.npy is corrupt"),
    "the array's header": (lambda out: flip_bit(out / "images.npy", 20), "images.npy is corrupt"),
    "a label": (lambda out: flip_bit(out / "labels.npy", -8), "labels.npy is corrupt"),
    "the split": (in_manifest('"train": [\n      '), "manifest.json is not what"),
    "the number of classes": (in_manifest('"classes": '), "manifest.json is not what"),
    "images cut": (lambda out: os.truncate(out / "images.npy", 200), "images.npy is corrupt"),
    "images empty": (lambda out: os.truncate(out / "images.npy", 0), "images.npy is corrupt"),
    "no images": (lambda out: (out / "images.npy").unlink(), "images.npy is missing"),
    "no labels": (lambda out: (out / "labels.npy").unlink(), "labels.npy is missing"),
    "no manifest": (lambda out: (out / "manifest.json").unlink(), "manifest.json is missing"),
    "manifest cut": (lambda out: os.truncate(out / "manifest.json", 50), "manifest.json is not what"),
    "another manifest": (
        lambda out: (out / "manifest.json").write_text("[]") and None,
        "manifest.json is not what",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_noticed_with_the_mend(case: str, tmp_path: Path) -> None:
    damage, message = DAMAGE[case]
    make(tmp_path)
    damage(tmp_path / "out")
    with pytest.raises(UserError, match=message) as caught:
        open_dataset(tmp_path / "out")
    mend = "`dvc repro`" if case == "no manifest" else "`python -m pipeline.commands.cache`, .* `dvc repro -f prepare`"
    assert re.search(mend, str(caught.value))


@given(where=st.data())
@settings(max_examples=60, deadline=None)
def test_no_flipped_bit_goes_unnoticed(tmp_path_factory: pytest.TempPathFactory, where: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("bit")
    make(folder)
    path = folder / "out" / where.draw(st.sampled_from(["images.npy", "labels.npy", "manifest.json"]))
    data = bytearray(path.read_bytes())
    data[where.draw(st.integers(0, len(data) - 1))] ^= 1 << where.draw(st.integers(0, 7))
    path.write_bytes(data)
    with pytest.raises(UserError, match=path.name):
        open_dataset(folder / "out")


def limited(folder: Path, size: int) -> subprocess.CompletedProcess[str]:
    """Prepare in a process that can write no file larger than `size` bytes, as on a disk that is full."""
    code = (
        "from pathlib import Path; from pipeline.data.preparation import prepare; import sys\n"
        "try: prepare(Path(sys.argv[1]), name='npz', source=sys.argv[2], image_size=64, num_held_out=2, seed=0)\n"
        "except OSError as error: sys.exit(error.errno)"
    )
    return subprocess.run(
        [sys.executable, "-c", code, str(folder / "out"), str(folder / "in.npz")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
        capture_output=True,
        text=True,
    )


def test_a_full_disk_raises_and_leaves_nothing(tmp_path: Path) -> None:
    """An error that the stage can tell, where writing through a memory map would end in a signal."""
    save(tmp_path, np.zeros((3000, 64, 64), np.uint8), np.zeros(3000, np.int64))
    done = limited(tmp_path, 1_000_000)
    assert done.returncode == errno.EFBIG, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["in.npz"]
    assert limited(tmp_path, 100_000_000).returncode == 0


def peak(count: int, folder: Path) -> int:
    """Peak memory in MB of preparing `count` 32x32 colour images, in a process of its own.

    Without the largest distance: its memory is bounded too, but mapped pages and blocks of distances count here.
    """
    folder.mkdir()
    with (folder / "in.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, 3, 32, 32)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + count * 3072)
    code = (
        "from pathlib import Path; from pipeline.data import preparation; import sys\n"
        "preparation._largest_distance = lambda *_: None\n"
        "preparation.prepare(\n"
        "    Path(sys.argv[1]), name='npz', source=sys.argv[2], image_size=32, num_held_out=100, seed=0\n"
        ")\n"
        "print(Path('/proc/self/status').read_text())"
    )
    command = [sys.executable, "-c", code, str(folder / "out"), str(folder / "in.npy")]
    status = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own peak of a process")
def test_memory_stays_flat(tmp_path: Path) -> None:
    """30,000 more images are 92 MB more of pixels, and take under 8 MB more memory."""
    assert peak(32_000, tmp_path / "large") - peak(2_000, tmp_path / "small") < 8
