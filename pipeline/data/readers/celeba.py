"""CelebA's aligned faces: the zip or its unpacked folder, the partition file and the attribute file.

CelebA has no classes. The label made here is 2 * Male + Smiling, so that there is something for the
reference classifier to learn where no other feature space is at hand.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np

from pipeline.data.archives import zip_archive
from pipeline.data.readers.pictures import decode, noted, refuse, square
from pipeline.data.source import Block, Raw, rows_in_block
from pipeline.ncsn.errors import UserError

CROP = 140
TRAIN, TEST = "0", "2"
ATTRIBUTES = ("Male", "Smiling")
Opener = Callable[[str], IO[bytes]]


def read_celeba(paths: list[Path], image_size: int) -> Raw:
    """Read the train part (partition 0), then the test part (2); the validation part is left out."""
    images, partition, attributes = paths
    rows = _table(partition)
    train, test = ([name for name, part in rows.items() if part == [kind]] for kind in (TRAIN, TEST))
    labels = _labels(attributes)
    missing = [name for name in train + test if name not in labels]
    if missing or not train or not test:
        raise UserError(
            f"{partition} names {len(train)} train and {len(test)} test images, of which {attributes} "
            f"lacks {len(missing)}: fetch both files again."
        )
    return Raw(
        count=len(train) + len(test),
        channels=3,
        blocks=_blocks(images, train + test, labels, image_size),
        own_test=len(test),
        transformations=(
            "partitions 0 (train) and 2 (test)",
            f"centre crop {CROP}x{CROP}",
            f"bilinear resize to {image_size}x{image_size}",
            f"label = 2 * {ATTRIBUTES[0]} + {ATTRIBUTES[1]}",
        ),
    )


def _table(path: Path, skip: int = 0) -> dict[str, list[str]]:
    """Lines of `000001.jpg value value ...` as name -> values."""
    rows = {}
    lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    for number, line in enumerate(lines[skip:], skip + 1):
        name, *values = line.split() or [""]
        if not re.fullmatch(r"\d+\.(jpg|png)", name):
            raise UserError(f"{path}, line {number}: expected an image's name first, found {line[:40]!r}.")
        rows[name] = values
    return rows


def _labels(path: Path) -> dict[str, int]:
    names = path.read_text(encoding="ascii", errors="replace").split("\n", 2)[1:2]
    columns = names[0].split() if names else []
    if not set(ATTRIBUTES) <= set(columns):
        raise UserError(f"{path}: the second line does not name the attributes {' and '.join(ATTRIBUTES)}.")
    male, smiling = map(columns.index, ATTRIBUTES)
    try:
        return {
            name: 2 * (int(values[male]) > 0) + (int(values[smiling]) > 0)
            for name, values in _table(path, skip=2).items()
        }
    except (IndexError, ValueError) as error:
        raise UserError(f"{path}: a line does not hold {len(columns)} whole numbers.") from error


def _opener(path: Path, stack: ExitStack) -> Opener:
    if path.is_dir():
        return lambda name: (path / name).open("rb")
    archive = stack.enter_context(zip_archive(path))
    return lambda name: archive.open(f"img_align_celeba/{name}")


def _blocks(path: Path, names: list[str], labels: dict[str, int], image_size: int) -> Iterator[Block]:
    bad: dict[str, str] = {}
    shape = (3, image_size, image_size)
    rows = rows_in_block(*shape)
    with ExitStack() as stack:
        opener = _opener(path, stack)
        for start in range(0, len(names), rows):
            part = names[start : start + rows]
            images = np.zeros((len(part), *shape), np.uint8)
            for place, name in enumerate(part):
                with noted(bad, name):
                    images[place] = _face(opener, name, image_size)
            yield images, np.array([labels[name] for name in part], np.int64)
    refuse(bad, len(names), path)


def _face(opener: Opener, name: str, image_size: int) -> np.ndarray:
    try:
        with opener(name) as file:
            image = decode(file)
    except (KeyError, FileNotFoundError) as error:
        raise ValueError("is missing, though the partition file names it") from error
    if image.mode != "RGB" or min(image.size) < CROP:
        raise ValueError(f"is no colour image of a face: {image.mode} {image.width}x{image.height}")
    return square(image, CROP, image_size)
