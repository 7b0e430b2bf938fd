"""Look at a folder or file of images: first at its headers, then at the data as `prepare` will make them."""

import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.data.catalogue import CATALOGUE
from pipeline.data.dataset import open_dataset
from pipeline.data.preparation import prepare
from pipeline.data.readers import arrays, folder, pictures
from pipeline.ncsn.errors import UserError

FEWEST = 200
"""Images: of fewer, a fifth is too little to measure anything on."""
MOST_HELD_OUT = 1000
SMALLEST, LARGEST = 8, {"cpu": 32, "cuda": 64}
"""Image sizes that are proposed; by device, what it can train on in an hour."""
WHITE = (255, 255, 255)
Keys = dict[str, object]
"""Of the section `data`, with their values."""
ALL = pictures.Conversion(WHITE, white=65535, to_rgb=True)


@dataclass
class Headers:
    """What the headers of images say."""

    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Number of images by width and height."""
    transparent: int = 0
    """Images with an alpha channel or a transparent colour."""
    highest: int = 0
    """Of the pixels of 16 bits; 0: there are none."""

    modes: Counter[str] = field(default_factory=Counter)
    """Number of images by how Pillow stores their pixels."""

    @property
    def to_rgb(self) -> str:
        """What has to become RGB for all images to be of one mode; empty: nothing."""
        mixed = {"L" if mode in pictures.DEEP else pictures.LAID.get(mode, mode) for mode in self.modes}
        if len(mixed) == 1 and mixed <= {"L", "RGB"}:
            return ""
        return ", ".join(f"{count:,} of mode {mode}" for mode, count in self.modes.most_common())

    @property
    def side(self) -> int:
        """The shortest of all."""
        return min(min(size) for size in self.sizes)

    @property
    def white(self) -> int | None:
        """The largest number of as many bits as are used; None without images of 16 bits."""
        return 2 ** self.highest.bit_length() - 1 if self.highest else None


@dataclass(frozen=True)
class Facts:
    """What a preset follows from."""

    data: Keys
    why: dict[str, str]
    """By key of that section."""
    images: np.ndarray
    """Training images, uint8 (N, C, H, W)."""
    held_out: int
    """Number of images."""
    by_class: tuple[int, ...]
    """Number of images of each class."""
    sigma_max: float
    """The largest distance of two training images, pixels in [0, 1]: technique 1 of NCSNv2."""
    device: str = "cpu"

    @property
    def size(self) -> int:
        """Height and width of an image."""
        return int(self.images.shape[2])

    @property
    def pixels(self) -> int:
        """Numbers in an image, D."""
        return int(np.prod(self.images.shape[1:]))


def look(path: Path, image_size: int | None, background: tuple[int, ...] | None, device: str) -> Facts:
    """What a preset for these images follows from; they are read once, into a temporary folder.

    Args:
        path: a folder of images, or an .npz or .npy file.
        image_size: what they are resized to; None: chosen.
        background: red, green and blue below an alpha channel; None: white.
        device: "cpu" or "cuda", on which the size depends.

    Raises:
        UserError: nothing to read, images of several sizes without `image_size`, too few or too small ones, images
            that are all equal, or what `prepare` raises.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist: give a folder of images, or an .npz or .npy file.")
    data, why = _file(path) if path.is_file() else _folder(path, image_size, background, device)
    if path.is_file() and image_size not in (None, data["image_size"]):
        raise UserError(
            f"{path} holds images of {data['image_size']} pixels a side, which are not resized: omit the size."
        )
    count, own_test = _count(path, data)
    if count < FEWEST:
        raise UserError(f"{path} holds {count} images: at least {FEWEST} are needed, of which a fifth is held out.")
    data["num_held_out"] = None if own_test else min(MOST_HELD_OUT, count // 5)
    why["num_held_out"] = (
        "the file's own test split" if own_test else f"a fifth of {count:,} images, {MOST_HELD_OUT:,} at most"
    )
    data["seed"], why["seed"], why["source"] = 0, "chooses the held-out images", "where they lie"
    return _prepared(data, why, device)


def _count(path: Path, data: Keys) -> tuple[int, int]:
    """Number of images, and of those in a test split of their own."""
    entry = CATALOGUE[str(data["name"])]
    more = {key: data[key] for key in entry.takes if key in data}
    raw = entry.read([path], data["image_size"], **more)
    return raw.count, raw.own_test


def _prepared(data: Keys, why: dict[str, str], device: str) -> Facts:
    with tempfile.TemporaryDirectory() as scratch:
        manifest = prepare(Path(scratch) / "data", **data)  # type: ignore[arg-type]
        opened = open_dataset(Path(scratch) / "data")
        images = np.array(opened.split("train"))
        by_class = np.bincount(opened.labels, minlength=manifest["classes"])
        sigma_max = manifest["max_pairwise_distance"] or 0.0
        held_out = len(opened.split("held_out"))
    if sigma_max < 0.1:
        raise UserError(f"{data['source']}: the largest distance of two images is {sigma_max:.3g}: they are all equal.")
    return Facts(data, why, images, held_out, tuple(map(int, by_class)), sigma_max, device)


def _file(path: Path) -> tuple[Keys, dict[str, str]]:
    size = arrays.side(path)
    return _data("npz", path, size), {"name": "an array", "image_size": "as the images are"}


def _folder(
    path: Path, image_size: int | None, background: tuple[int, ...] | None, device: str
) -> tuple[Keys, dict[str, str]]:
    seen = _headers(path)
    if len(seen.sizes) > 1 and image_size is None:
        raise UserError(_mixed(path, seen))
    size, reason = (image_size, "as asked") if image_size else _size(path, seen.side, device)
    same = len(seen.sizes) == 1
    why = {
        "name": "images as files" if same else f"{len(seen.sizes)} sizes: each cut to its central square",
        "image_size": reason,
    }
    data = _data("folder" if same else "folder_any_size", path, size)
    if seen.transparent:
        data["background"] = list(background or WHITE)
        below = f"laid below the alpha channel of {seen.transparent:,} images"
        why["background"] = below if background else f"{below}: white; --background sets another colour"
    if seen.to_rgb:
        data["to_rgb"], why["to_rgb"] = True, f"all become RGB: {seen.to_rgb}"
    if seen.white:
        data["white"] = seen.white
        why["white"] = f"images of 16 bits of grey, the highest value {seen.highest}"
    return data, why


def _data(name: str, path: Path, size: int) -> Keys:
    return {"name": name, "source": str(path.resolve()), "image_size": size}


def _headers(path: Path) -> Headers:
    """Of all images that can be opened; `prepare` tells of the others."""
    found, bad = Headers(), dict[str, str]()
    for name in folder.find(path).names:
        with pictures.noted(bad, name), (path / name).open("rb") as file:
            image = pictures.header(file, ALL)
            found.sizes[image.size] += 1
            found.modes[image.mode] += 1
            found.transparent += pictures.see_through(image)
            if image.mode in pictures.DEEP:
                found.highest = max(found.highest, int(np.asarray(image).max()), 1)
    if not found.sizes:
        pictures.refuse(bad, len(bad), path)
    return found


def _mixed(path: Path, seen: Headers) -> str:
    some = ", ".join(f"{width}x{height} ({count:,})" for (width, height), count in seen.sizes.most_common(3))
    return (
        f"{path} holds images of {len(seen.sizes)} sizes, such as {some}: add `--image-size N`, at most {seen.side}, "
        "to cut each to its central square and resize it."
    )


def _size(path: Path, side: int, device: str) -> tuple[int, str]:
    """The largest size that the images and the device allow, and why."""
    largest = min(side, LARGEST[device])
    if side < SMALLEST:
        raise UserError(f"{path} holds images of {side} pixels a side: the networks need at least {SMALLEST}.")
    size = largest - largest % (8 if largest > 32 else 4)
    if size == side:
        return size, "as the images are"
    asked = f"; --image-size {side - side % 4} is slower" if side > LARGEST[device] else ", a multiple of 4"
    return size, f"of the images' {side} pixels{asked}"
