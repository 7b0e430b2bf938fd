"""What a reader hands on is what the file says, and a broken file is named."""

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.data.catalogue import CATALOGUE
from pipeline.data.dataset import open_dataset
from pipeline.data.preparation import prepare
from pipeline.data.readers import arrays, cifar, digits, folder, idx
from pipeline.errors import UserError

SIZES = {"fashion_mnist": ("fashion", 28), "cifar10": ("cifar", 32), "celeba": ("celeba", 64)}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("block", [1, 2, 1024])
def test_own_split_and_pixels_come_through(
    name: str, block: int, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = request.getfixturevalue(SIZES[name][0])
    for module in ("idx", "cifar", "celeba"):
        monkeypatch.setattr(f"pipeline.data.readers.{module}.BLOCK", block)
    prepare(
        tmp_path / "out", name=name, source=str(made.folder), image_size=SIZES[name][1], held_out=None, seed=0
    )
    data = open_dataset(tmp_path / "out")
    np.testing.assert_array_equal(data.split("train"), made.images[: -made.test])
    np.testing.assert_array_equal(data.split("held_out"), made.images[-made.test :])
    np.testing.assert_array_equal(data.split_labels("train"), made.labels[: -made.test])
    np.testing.assert_array_equal(data.split_labels("held_out"), made.labels[-made.test :])


def test_digits_are_scikit_learns(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    published = load_digits()
    manifest = prepare(tmp_path / "out", name="digits", source=None, image_size=8, held_out=720, seed=0)
    data = open_dataset(tmp_path / "out")
    held = manifest["split"]["held_out_source_rows"]
    train = np.setdiff1d(np.arange(1797), held)
    for name, rows in (("train", train), ("held_out", held)):
        expected = np.floor(published.images[rows] * 255 / 16 + 0.5)
        np.testing.assert_array_equal(data.split(name)[:, 0], expected)
        np.testing.assert_array_equal(data.split_labels(name), published.target[rows])


@pytest.mark.parametrize("content", [b"", b"a,b\n", b"1,2,3\n", b"17," * 64 + b"1\n"])
def test_digits_refuses_other_tables(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "digits.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"digits\.csv"):
        digits.read([tmp_path / "digits.csv"], 8)


def idx_bytes(shape: tuple[int, ...], body: int, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + bytes(body)


BROKEN_IDX = {
    "wrong magic": (0, b"P5 28 28" + bytes(8), "starts with 50352032"),
    "another type": (0, idx_bytes((2, 28, 28), 1568, kind=13), "starts with 00000d03"),
    "labels for images": (0, idx_bytes((2,), 2), "3 dimension"),
    "images for labels": (1, idx_bytes((2, 28, 28), 1568), "1 dimension"),
    "header cut": (0, b"\0\0\x08\x03\0\0", "cut short"),
    "pixels cut": (0, idx_bytes((2, 28, 28), 1567), "cut short: 1 bytes"),
    "labels cut": (1, idx_bytes((2,), 1), "cut short: 1 bytes"),
    "too long": (0, idx_bytes((2, 28, 28), 1569), "longer than its header"),
    "labels too long": (1, idx_bytes((2,), 3), "longer than its header"),
    "another size": (0, idx_bytes((2, 27, 28), 1512), "27x28 images, not 28x28"),
    "another count": (1, idx_bytes((3,), 3), "3 labels for 2 images"),
    "empty": (0, b"", "cut short: 4 bytes"),
    "gzip cut": (0, gzip.compress(idx_bytes((2, 28, 28), 1568))[:-20], "cannot be unpacked|cut short"),
}


@pytest.mark.parametrize("case", BROKEN_IDX)
def test_broken_idx_is_named(case: str, tmp_path: Path) -> None:
    which, content, message = BROKEN_IDX[case]
    good = [idx_bytes((2, 28, 28), 1568), idx_bytes((2,), 2)]
    paths = [tmp_path / name for name in ("images", "labels", "test_images", "test_labels")]
    for path, data in zip(paths, good + good, strict=True):
        path.write_bytes(data)
    assert sum(len(images) for images, _ in idx.read(paths, 28).blocks) == 4
    paths[which].write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        list(idx.read(paths, 28).blocks)
    assert str(paths[which]) in str(caught.value)


RECORD = 3073
GOOD_CIFAR = {
    f"cifar-10-batches-bin/{n}.bin": bytes(RECORD)
    for n in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
}
BROKEN_CIFAR: dict[str, tuple[dict[str, bytes | None], str]] = {
    "member missing": ({"data_batch_3": None}, "no member cifar-10-batches-bin/data_batch_3.bin"),
    "half a record": ({"data_batch_2": bytes(RECORD + 5)}, "data_batch_2.bin has 3078 bytes"),
    "empty member": ({"test_batch": b""}, "test_batch.bin has 0 bytes"),
    "label above 9": ({"data_batch_5": b"\x0a" + bytes(RECORD - 1)}, "data_batch_5.bin holds the label 10"),
}


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize("case", BROKEN_CIFAR)
def test_broken_cifar_is_named(case: str, tmp_path: Path) -> None:
    changes, message = BROKEN_CIFAR[case]
    members: dict[str, bytes] = dict(GOOD_CIFAR)
    for name, data in changes.items():
        members.pop(f"cifar-10-batches-bin/{name}.bin")
        if data is not None:
            members[f"cifar-10-batches-bin/{name}.bin"] = data
    write_tar(tmp_path / "archive.tar.gz", members)
    with pytest.raises(UserError, match=message):
        list(cifar.read([tmp_path / "archive.tar.gz"], 32).blocks)


def test_cifar_reads_no_link_and_writes_nothing(tmp_path: Path) -> None:
    """A member that is a link, or lies outside the folder, is neither followed nor written."""
    path = tmp_path / "archive.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in GOOD_CIFAR:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
            archive.addfile(info)
        archive.addfile(tarfile.TarInfo("../escaped"), io.BytesIO())
    with pytest.raises(UserError, match=r"data_batch_1\.bin"):
        cifar.read([path], 32)
    assert [p.name for p in tmp_path.iterdir()] == ["archive.tar.gz"]


@pytest.mark.parametrize("keep", [0, 30, 200])
def test_truncated_cifar_archive_is_named(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "archive.tar.gz"
    noise = np.random.default_rng(0).integers(0, 10, 6 * RECORD).astype(np.uint8).tobytes()
    write_tar(path, {name: noise[k * RECORD : (k + 1) * RECORD] for k, name in enumerate(GOOD_CIFAR)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"archive\.tar\.gz"):
        list(cifar.read([path], 32).blocks)


def prepare_celeba(folder: Path, out: Path, size: int = 64) -> Any:
    return prepare(out, name="celeba", source=str(folder), image_size=size, held_out=None, seed=0)


def test_celeba_folder_gives_the_zips_pixels(celeba: Any, tmp_path: Path) -> None:
    with zipfile.ZipFile(celeba.folder / "Img/img_align_celeba.zip") as archive:
        archive.extractall(celeba.folder / "Img")
    zipped = prepare_celeba(celeba.folder, tmp_path / "zip", 32)
    (celeba.folder / "Img/img_align_celeba.zip").unlink()
    unpacked = prepare_celeba(celeba.folder, tmp_path / "folder", 32)
    assert unpacked["sha256"] == zipped["sha256"]
    assert zipped["source"][0]["md5"]
    assert unpacked["source"][0]["md5"] is None, (
        "an unpacked folder cannot be verified, and the manifest says so"
    )


def test_celeba_resizes_as_pillow_does(celeba: Any, tmp_path: Path) -> None:
    prepare_celeba(celeba.folder, tmp_path / "out", 32)
    with zipfile.ZipFile(celeba.folder / "Img/img_align_celeba.zip") as archive:
        face = Image.open(io.BytesIO(archive.read("img_align_celeba/000001.png")))
    expected = np.asarray(face.crop((19, 39, 159, 179)).resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(open_dataset(tmp_path / "out").images[0].transpose(1, 2, 0), expected)


def rewrite_zip(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


FACE = "img_align_celeba/000003.png"
BROKEN_FACES: dict[str, tuple[Callable[[dict[str, bytes]], None], str]] = {
    "missing": (lambda m: m.pop(FACE) and None, "no image 000003.png"),
    "not an image": (lambda m: m.update({FACE: b"hello"}), "000003.png cannot be decoded"),
    "cut short": (lambda m: m.update({FACE: m[FACE][:100]}), "000003.png cannot be decoded"),
    "too small": (lambda m: m.update({FACE: picture((100, 100, 3))}), "000003.png is a RGB image of 100x100"),
    "grey": (lambda m: m.update({FACE: picture((218, 178))}), "000003.png is a L image"),
}


def picture(shape: tuple[int, ...], mode: str | None = None, kind: str = "png") -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    (image.convert(mode) if mode else image).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("case", BROKEN_FACES)
def test_broken_face_is_named(case: str, celeba: Any, republish_celeba: Any, tmp_path: Path) -> None:
    change, message = BROKEN_FACES[case]
    rewrite_zip(celeba.folder / "Img/img_align_celeba.zip", change)
    republish_celeba(celeba.folder)
    with pytest.raises(UserError, match=message):
        prepare_celeba(celeba.folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


BROKEN_LISTS = {
    "path in a name": (
        "Eval/list_eval_partition.txt",
        "../../etc/passwd 0\n",
        "line 1: expected an image's name",
    ),
    "no test part": ("Eval/list_eval_partition.txt", "000001.png 0\n", "1 train and 0 test images"),
    "unknown image": ("Eval/list_eval_partition.txt", "000001.png 0\n000099.png 2\n", "lacks 1"),
    "no such attribute": ("Anno/list_attr_celeba.txt", "1\nYoung\n000001.png 1\n", "Male and Smiling"),
    "short row": ("Anno/list_attr_celeba.txt", "1\nMale Smiling\n000001.png 1\n", "2 whole numbers"),
    "empty": ("Anno/list_attr_celeba.txt", "", "Male and Smiling"),
}


@pytest.mark.parametrize("case", BROKEN_LISTS)
def test_broken_celeba_list_is_named(case: str, celeba: Any, republish_celeba: Any, tmp_path: Path) -> None:
    name, content, message = BROKEN_LISTS[case]
    (celeba.folder / name).write_text(content)
    republish_celeba(celeba.folder)
    with pytest.raises(UserError, match=message) as caught:
        prepare_celeba(celeba.folder, tmp_path / "out")
    assert Path(name).name in str(caught.value)


def fill(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def test_folder_cuts_the_centre_and_takes_folders_as_classes(tmp_path: Path) -> None:
    image = np.zeros((6, 10), np.uint8)
    image[:, 2:8] = np.arange(36).reshape(6, 6)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    root = fill(
        tmp_path / "in", {"b/1.png": buffer.getvalue(), "a/2.PNG": buffer.getvalue(), "a/readme.txt": b"x"}
    )
    raw = folder.read([root], 6)
    ((images, labels),) = raw.blocks
    np.testing.assert_array_equal(images, np.stack([image[None, :, 2:8]] * 2))
    assert labels.tolist() == [0, 1]
    assert (raw.count, raw.channels, raw.own_test) == (2, 1, 0)


GOOD = {f"{n}.png": picture((16, 16, 3)) for n in range(3)}
BROKEN_FOLDERS: dict[str, tuple[dict[str, bytes], str]] = {
    "no images": ({"readme.txt": b""}, "holds no images"),
    "not an image": ({**GOOD, "bad.png": b"hello"}, r"1 of 4 .*bad\.png \(not an image\)"),
    "empty file": ({**GOOD, "bad.png": b""}, r"bad\.png \(not an image\)"),
    "another size": ({**GOOD, "bad.png": picture((16, 17, 3))}, r"bad\.png \(RGB 17x16\)"),
    "grey among colour": ({**GOOD, "bad.png": picture((16, 16))}, r"bad\.png \(L 16x16\)"),
    "palette": ({**GOOD, "bad.png": picture((16, 16, 3), "P")}, r"bad\.png \(P 16x16\)"),
    "16 bits": ({**GOOD, "bad.png": picture((16, 16), "I;16")}, r"bad\.png \(I;16 16x16\)"),
    "all with alpha": ({"a.png": picture((16, 16, 3), "RGBA")}, r"1 of 1 .*a\.png \(RGBA 16x16\)"),
    "too small": ({"a.png": picture((4, 4))}, r"data\.image_size: 8 exceeds the 4 pixels"),
    "two bad, both named": ({**GOOD, "b.png": b"", "c.png": b""}, r"2 of 5 .*b\.png.*c\.png"),
    "pixels cut": ({**GOOD, "0.png": GOOD["0.png"][:300]}, r"0\.png cannot be decoded"),
}


@pytest.mark.parametrize("case", BROKEN_FOLDERS)
def test_broken_folder_is_named(case: str, tmp_path: Path) -> None:
    files, message = BROKEN_FOLDERS[case]
    with pytest.raises(UserError, match=message):
        list(folder.read([fill(tmp_path / "in", files)], 8).blocks)


def test_folder_must_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is not a folder"):
        folder.read([tmp_path / "file"], 8)


@pytest.mark.parametrize("layout", ["NHW", "NCHW", "NHWC"])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_arrays_of_every_layout(
    layout: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "BLOCK", 2)
    channels = 1 if layout == "NHW" else 3
    images = np.random.default_rng(0).integers(0, 256, (5, channels, 9, 9), np.uint8)
    stored = {
        "NHW": images[:, 0],
        "NCHW": images,
        "NHWC": np.ascontiguousarray(images.transpose(0, 2, 3, 1)),
    }[layout]
    path = tmp_path / f"in.{suffix}"
    labels = np.arange(5) if suffix == "npz" else np.zeros(5)
    np.save(path, stored) if suffix == "npy" else np.savez_compressed(path, images=stored, labels=labels)
    raw = arrays.read([path], 9)
    blocks = list(raw.blocks)
    np.testing.assert_array_equal(np.concatenate([b[0] for b in blocks]), images)
    np.testing.assert_array_equal(np.concatenate([b[1] for b in blocks]), labels)
    assert (raw.count, raw.channels) == (5, channels)


def npz(**values: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **values)
    return buffer.getvalue()


IMAGES = np.zeros((4, 9, 9), np.uint8)
BROKEN_ARRAYS = {
    "no images": (npz(pictures=IMAGES), "no array `images`"),
    "no zip": (b"hello", "is no .npy or .npz file"),
    "cut": (npz(images=IMAGES)[:-30], "is no .npy or .npz file"),
    "floats": (npz(images=IMAGES / 1.0), "must be uint8 in C order, not float64"),
    "pickled": (npz(images=np.array([{}])), "must be uint8"),
    "Fortran order": (npz(images=np.asfortranarray(IMAGES)), "in Fortran order"),
    "another size": (npz(images=IMAGES[:, :8, :8]), r"shape \(4, 8, 8\); data.image_size: 9"),
    "two channels": (npz(images=np.zeros((4, 2, 9, 9), np.uint8)), r"shape \(4, 2, 9, 9\)"),
    "labels of another length": (
        npz(images=IMAGES, labels=np.arange(3)),
        r"`labels` has the shape \(3,\) for 4",
    ),
    "float labels": (npz(images=IMAGES, labels=np.ones(4)), "`labels` must be int64"),
}


@pytest.mark.parametrize("case", BROKEN_ARRAYS)
def test_broken_array_is_named(case: str, tmp_path: Path) -> None:
    content, message = BROKEN_ARRAYS[case]
    (tmp_path / "in.npz").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        list(arrays.read([tmp_path / "in.npz"], 9).blocks)
    assert "in.npz" in str(caught.value)


def test_npy_cut_short_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", IMAGES)
    (tmp_path / "in.npy").write_bytes((tmp_path / "in.npy").read_bytes()[:-1])
    with pytest.raises(UserError, match="cut short: 1 bytes"):
        list(arrays.read([tmp_path / "in.npy"], 9).blocks)


def test_every_row_of_the_catalogue_is_whole() -> None:
    for entry in CATALOGUE.values():
        assert entry.title and entry.licence
        for file in entry.files:
            assert len(file.digest) == {"sha256": 64, "md5": 32}[file.algorithm]
            assert all(url.startswith("https://") and url.endswith(file.name) for url in file.urls)
            assert entry.homepage
