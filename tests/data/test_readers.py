"""What a reader hands on is what the file says; what is wrong with a file: test_bad_inputs.py."""

import errno
import io
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.data import source
from pipeline.data.catalogue import CATALOGUE
from pipeline.data.dataset import open_dataset
from pipeline.data.preparation import prepare
from pipeline.data.readers import arrays, folder
from pipeline.data.source import rows_in_block
from tests.data.formats import encoded, picture

SIZES = {"fashion_mnist": ("fashion", 28), "cifar10": ("cifar", 32), "celeba": ("celeba", 64)}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("block", [1, 25_000, 4 << 20])
def test_own_split_and_pixels_come_through(
    name: str, block: int, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = request.getfixturevalue(SIZES[name][0])
    monkeypatch.setattr(source, "BLOCK_BYTES", block)
    prepare(
        tmp_path / "out",
        name=name,
        source=str(made.folder),
        image_size=SIZES[name][1],
        num_held_out=None,
        seed=0,
    )
    data = open_dataset(tmp_path / "out")
    np.testing.assert_array_equal(data.split("train"), made.images[: -made.test])
    np.testing.assert_array_equal(data.split("held_out"), made.images[-made.test :])
    np.testing.assert_array_equal(data.split_labels("train"), made.labels[: -made.test])
    np.testing.assert_array_equal(data.split_labels("held_out"), made.labels[-made.test :])


def test_a_block_is_of_bytes_not_of_images() -> None:
    assert rows_in_block(3, 32, 32) == 1365
    assert rows_in_block(3, 256, 256) == 21
    assert rows_in_block(3, 4096, 4096) == 1


def test_digits_are_scikit_learns(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    published = load_digits()
    manifest = prepare(tmp_path / "out", name="digits", source=None, image_size=8, num_held_out=720, seed=0)
    data = open_dataset(tmp_path / "out")
    held = manifest["split"]["held_out_source_rows"]
    train = np.setdiff1d(np.arange(1797), held)
    for name, rows in (("train", train), ("held_out", held)):
        expected = np.floor(published.images[rows] * 255 / 16 + 0.5)
        np.testing.assert_array_equal(data.split(name)[:, 0], expected)
        np.testing.assert_array_equal(data.split_labels(name), published.target[rows])


def prepare_celeba(folder: Path, out: Path, size: int = 64) -> Any:
    return prepare(out, name="celeba", source=str(folder), image_size=size, num_held_out=None, seed=0)


def test_celeba_folder_gives_the_zips_pixels(celeba: Any, tmp_path: Path) -> None:
    with zipfile.ZipFile(celeba.folder / "Img/img_align_celeba.zip") as archive:
        archive.extractall(celeba.folder / "Img")
    zipped = prepare_celeba(celeba.folder, tmp_path / "zip", 32)
    (celeba.folder / "Img/img_align_celeba.zip").unlink()
    unpacked = prepare_celeba(celeba.folder, tmp_path / "folder", 32)
    assert unpacked["sha256"] == zipped["sha256"]
    assert zipped["source"][0]["sha256"]
    assert unpacked["source"][0]["sha256"] is None, "an unpacked folder cannot be verified, and the manifest says so"


def test_celeba_resizes_as_pillow_does(celeba: Any, tmp_path: Path) -> None:
    prepare_celeba(celeba.folder, tmp_path / "out", 32)
    with zipfile.ZipFile(celeba.folder / "Img/img_align_celeba.zip") as archive:
        face = Image.open(io.BytesIO(archive.read("img_align_celeba/000001.png")))
    expected = np.asarray(face.crop((19, 39, 159, 179)).resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(open_dataset(tmp_path / "out").images[0].transpose(1, 2, 0), expected)


def fill(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def test_folder_cuts_the_centre_and_takes_outermost_folders_as_classes(tmp_path: Path) -> None:
    image = np.zeros((6, 10), np.uint8)
    image[:, 2:8] = np.arange(36).reshape(6, 6)
    names = ("b/1.png", "a/2.PNG", "a/deep/3.png", "0.png")
    root = fill(tmp_path / "in", dict.fromkeys(names, encoded(image)) | {"a/readme.txt": b"x"})
    raw = folder.read_folder([root], 6)
    ((images, labels),) = raw.blocks
    np.testing.assert_array_equal(images, np.stack([image[None, :, 2:8]] * 4))
    assert labels.tolist() == [0, 1, 1, 2], "0.png lies in no folder, then a, then b"
    assert (raw.count, raw.channels, raw.own_test) == (4, 1, 0)
    assert "images that lie in no folder, class 0: 1" in raw.transformations


def test_folder_follows_links_to_folders(tmp_path: Path) -> None:
    other = fill(tmp_path / "other", {f"{n}.png": picture(8, 8) for n in range(3)})
    root = fill(tmp_path / "in", {f"{part}/{n}.png": picture(8, 8) for part in "ab" for n in range(3)})
    (root / "c").symlink_to(other)
    raw = folder.read_folder([root], 8)
    ((images, labels),) = raw.blocks
    assert raw.count == len(images) == 9
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_folder_of_links_alone(tmp_path: Path) -> None:
    for part in ("a", "b"):
        fill(tmp_path / part, {"0.png": picture(8, 8)})
    (tmp_path / "in").mkdir()
    for part in ("a", "b"):
        (tmp_path / "in" / part).symlink_to(tmp_path / part)
    (tmp_path / "in/self.txt").symlink_to("self.txt")
    ((_, labels),) = folder.read_folder([tmp_path / "in"], 8).blocks
    assert labels.tolist() == [0, 1]


def test_folder_that_cannot_be_listed_is_no_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fill(tmp_path / "in", {"a/0.png": picture(8, 8), "b/0.png": picture(8, 8)})
    iterdir = Path.iterdir

    def locked(path: Path) -> Iterator[Path]:
        if path.name == "b":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", locked)
    with pytest.raises(PermissionError):
        folder.read_folder([root], 8)


def test_folder_tells_and_counts_what_it_passes_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Thumbnails, waste and checkpoints of notebooks are no classes."""
    images = {f"{part}/{n}.png": picture(8, 8) for part in "ab" for n in range(2)}
    hidden = dict.fromkeys([".ipynb_checkpoints/0.png", ".Trash-1000/a/0.png", "a/.thumbnails/0.png", "b/._0.png"])
    others = dict.fromkeys(["a/0.pgm", "a/1.PGM", "b/0.gif", "b/scan"])
    root = fill(tmp_path / "in", images | {name: picture(8, 8) for name in hidden | others})
    with caplog.at_level(logging.INFO):
        manifest = prepare(tmp_path / "out", name="folder", source=str(root), image_size=8, num_held_out=1, seed=0)
    assert manifest["shape"][0] == 4 and manifest["classes"] == 2
    told = "passed over: 1 .gif, 2 .pgm, 4 names that begin with a dot, 1 without a suffix"
    assert manifest["transformations"] == [told]
    assert f"folder: {told}" in caplog.messages
    assert "folder: 4 images, 2 classes" in caplog.messages


@pytest.mark.parametrize(
    ("shape", "size", "done"),
    [
        ((8, 8), 8, []),
        ((16, 16), 8, ["bilinear resize to 8x8"]),
        ((8, 9), 8, ["centre crop of 9x8 to 8x8"]),
        ((18, 16), 8, ["centre crop of 16x18 to 16x16", "bilinear resize to 8x8"]),
    ],
)
def test_cropping_and_resizing_are_told_where_they_happen(
    shape: tuple[int, int], size: int, done: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = fill(tmp_path / "in", {f"{n}.png": picture(*shape) for n in range(3)})
    with caplog.at_level(logging.INFO):
        manifest = prepare(tmp_path / "out", name="folder", source=str(root), image_size=size, num_held_out=1, seed=0)
    assert manifest["transformations"] == done
    assert [f"folder: {line}" for line in done] == caplog.messages[: len(done)]


WHITE = [255, 255, 255]


@pytest.mark.parametrize("name", ["folder", "lsun", "ffhq"])
def test_alpha_is_laid_on_the_background_before_the_resize(name: str, tmp_path: Path) -> None:
    """Half see-through red on white is pink; where nothing is drawn, the colour below is the background."""
    icon = np.zeros((4, 4, 4), np.uint8)
    icon[:2] = (255, 0, 0, 128)
    root = fill(tmp_path / "in", {"0.png": encoded(icon), "1.png": encoded(np.full((4, 4, 3), 9, np.uint8))})
    raw = CATALOGUE[name].read([root], 4, background=WHITE)
    ((images, _),) = raw.blocks
    np.testing.assert_array_equal(images[0, :, :2], np.full((3, 2, 4), [[[255]], [[127]], [[127]]]))
    assert (images[0, :, 2:] == 255).all() and (images[1] == 9).all()
    ((small, _),) = CATALOGUE[name].read([root], 2, background=WHITE).blocks
    assert (small[0, 0] == 255).all(), "the black of pixels that are not seen reaches none that is"
    assert raw.transformations[0] == "alpha channels laid on the colour [255, 255, 255]"


@pytest.mark.parametrize(("background", "expected"), [(WHITE, 255), ([0, 0, 0], 0), ([255, 0, 0], 76)])
def test_a_transparent_grey_is_laid_on_the_brightness(background: list[int], expected: int, tmp_path: Path) -> None:
    pixels = np.full((4, 4), 7, np.uint8)
    pixels[0] = 100
    root = fill(tmp_path / "in", {"0.png": encoded(pixels, transparency=7), "1.png": encoded(pixels, mode="LA")})
    ((images, _),) = folder.read_folder([root], 4, background=background).blocks
    assert (images[0, 0, 0] == 100).all() and (images[0, 0, 1:] == expected).all()
    np.testing.assert_array_equal(images[1, 0], pixels)


def test_16_bits_of_grey_become_8_by_their_white(tmp_path: Path) -> None:
    deep = np.array([[0, 2047], [4094, 4095]], np.uint16)
    root = fill(tmp_path / "in", {"0.png": encoded(deep), "1.tif": encoded(deep, kind="tiff"), "2.png": picture(2, 2)})
    raw = CATALOGUE["folder"].read([root], 2, white=4095)
    ((images, _),) = raw.blocks
    np.testing.assert_array_equal(images[:2, 0], [[[0, 127], [255, 255]]] * 2)
    np.testing.assert_array_equal(images[2], folder_pixels(root / "2.png"))
    assert raw.transformations == ("16 bits of grey to 8, 4095 to 255",)


def test_palettes_and_grey_become_rgb_without_loss(tmp_path: Path) -> None:
    colour = np.array([[[255, 0, 0], [0, 0, 255]], [[51, 51, 51], [255, 255, 255]]], np.uint8)
    clear = np.dstack([colour, np.array([[255, 255], [255, 0]], np.uint8)])
    files = {"0.png": encoded(colour), "1.png": encoded(colour, mode="P"), "2.png": encoded(colour[:, :, 0])}
    files |= {"3.png": encoded(clear), "4.png": encoded(clear[:, :, 2:]), "5.tif": encoded(colour, "1", kind="tiff")}
    root = fill(tmp_path / "in", files)
    raw = CATALOGUE["folder"].read([root], 2, to_rgb=True, background=[0, 255, 0])
    ((images, _),) = raw.blocks
    red = np.repeat(colour[None, :, :, 0], 3, axis=0)
    np.testing.assert_array_equal(images[:3], [colour.transpose(2, 0, 1)] * 2 + [red])
    assert images[3, :, 1, 1].tolist() == [0, 255, 0] and len(set(images[4, :, 1, 1].tolist())) == 1
    assert "palettes and grey to RGB" in raw.transformations


def folder_pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))[None]


def test_folder_of_any_sizes_has_classes(tmp_path: Path) -> None:
    root = fill(tmp_path / "in", {"a/0.png": picture(4, 6), "b/0.png": picture(9, 5)})
    ((images, labels),) = CATALOGUE["folder_any_size"].read([root], 4).blocks
    assert images.shape == (2, 1, 4, 4) and labels.tolist() == [0, 1]


def test_folder_reads_each_in_its_place_whatever_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), np.uint8)
    root = fill(tmp_path / "in", {f"{n}.png": encoded(image) for n, image in enumerate(pixels)})
    monkeypatch.setattr(source, "BLOCK_BYTES", 100)
    blocks = list(folder.read_folder([root], 4).blocks)
    assert [len(images) for images, _ in blocks] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([i for i, _ in blocks]), pixels.transpose(0, 3, 1, 2))


def test_lsun_takes_images_of_any_size_and_categories_as_classes(tmp_path: Path) -> None:
    """As its own tool exports them: webp, in folders inside a category's that mean nothing."""
    grey = np.full((20, 30, 3), 7, np.uint8)
    grey[:, 5:25] = 200
    files = {
        "bedroom/0/x.webp": picture(16, 40, 3, kind="webp"),
        "church/1/y.png": encoded(grey),
        "church/2/z.png": encoded(grey),
    }
    raw = CATALOGUE["lsun"].read([fill(tmp_path / "in", files)], 10)
    ((images, labels),) = raw.blocks
    assert images.shape == (3, 3, 10, 10)
    assert (images[1] == 200).all(), "the central square of 20 by 20"
    assert labels.tolist() == [0, 1, 1]


def test_ffhqs_folders_are_no_classes(tmp_path: Path) -> None:
    files = {"00000/00000.png": picture(16, 16, 3), "01000/01000.png": picture(16, 16, 3)}
    ((_, labels),) = CATALOGUE["ffhq"].read([fill(tmp_path / "in", files)], 16).blocks
    assert labels.tolist() == [0, 0]


@pytest.mark.parametrize("layout", ["NHW", "NCHW", "NHWC"])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_arrays_of_every_layout(layout: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "BLOCK_BYTES", 500)
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
    raw = arrays.read_arrays([path], 9)
    blocks = list(raw.blocks)
    assert len(blocks) > 1 or layout == "NHW"
    np.testing.assert_array_equal(np.concatenate([b[0] for b in blocks]), images)
    np.testing.assert_array_equal(np.concatenate([b[1] for b in blocks]), labels)
    assert (raw.count, raw.channels) == (5, channels)


TWO = {"train": 4, "test": 2}


@pytest.mark.parametrize("dtype", ["u1", "i4", ">i8", "u2"])
@pytest.mark.parametrize("column", [False, True])
def test_labels_of_every_kind_of_whole_number(dtype: str, column: bool, tmp_path: Path) -> None:
    labels = np.array([0, 2, 1, 250], dtype)
    images = np.zeros((4, 9, 9), np.uint8)
    np.savez(tmp_path / "in.npz", images=images, labels=labels[:, None] if column else labels)
    ((_, found),) = arrays.read_arrays([tmp_path / "in.npz"], 9).blocks
    assert found.dtype == np.int64 and found.tolist() == [0, 2, 1, 250]


@pytest.mark.parametrize("names", ["{}_images {}_labels", "x_{} y_{}"])
def test_arrays_of_medmnist_and_keras_have_their_own_test_split(names: str, tmp_path: Path) -> None:
    draw, stored, made = np.random.default_rng(0), {}, {}
    for part, count in {**TWO, "val": 3}.items():
        x, y = names.format(part, part).split()
        made[part] = draw.integers(0, 256, (count, 9, 9, 3), np.uint8), draw.integers(0, 9, (count, 1), np.uint8)
        stored |= {x: made[part][0], y: made[part][1]}
    np.savez_compressed(tmp_path / "in.npz", **stored)
    arguments = {"source": str(tmp_path / "in.npz"), "image_size": 9, "num_held_out": None, "seed": 0}
    manifest = prepare(tmp_path / "out", name="npz", **arguments)
    data = open_dataset(tmp_path / "out")
    for split, part in (("train", "train"), ("held_out", "test")):
        np.testing.assert_array_equal(data.split(split), made[part][0].transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(data.split_labels(split), made[part][1][:, 0])
    x, y = names.format("val", "val").split()
    assert manifest["transformations"] == [f"arrays left out: {x}, {y}"]


def test_arrays_without_names_are_images_then_labels(tmp_path: Path) -> None:
    """As guided-diffusion publishes its samples."""
    images = np.random.default_rng(0).integers(0, 256, (4, 9, 9, 3), np.uint8)
    np.savez(tmp_path / "in.npz", images, np.arange(4))
    ((found, labels),) = arrays.read_arrays([tmp_path / "in.npz"], 9).blocks
    np.testing.assert_array_equal(found, images.transpose(0, 3, 1, 2))
    assert labels.tolist() == [0, 1, 2, 3]


def test_every_row_of_the_catalogue_is_whole() -> None:
    for entry in CATALOGUE.values():
        assert entry.title and entry.licence
        for file in entry.files:
            assert len(file.sha256) == 64 and file.size > 0
            assert all(url.startswith("https://") and url.endswith(file.name) for url in file.urls)
            assert entry.homepage
