"""Sources of data: an entry of the catalogue, its published files, and images as a reader yields them."""

import gzip
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

import numpy as np

Block = tuple[np.ndarray, np.ndarray]
"""Images uint8 (n, C, H, W) and their labels int64 (n,)."""

BLOCK_BYTES = 4 << 20
"""Pixels held in memory at once while a data set is prepared, whatever its size."""


def rows_in_block(*shape: int) -> int:
    """How many images of a shape make a block; at least one."""
    return max(1, BLOCK_BYTES // math.prod(shape))


@dataclass(frozen=True)
class Raw:
    """Output of a reader: images in the order of the source, a block at a time."""

    count: int
    channels: int
    blocks: Iterable[Block]
    """`count` images in all; may be walked through once."""
    own_test: int = 0
    """How many of the last images are the data set's own test split; 0: it has none."""
    transformations: tuple[str, ...] = ()


Reader = Callable[..., Raw]
"""(the files in the catalogue's order, or the user's one path; image_size) -> Raw. Raises UserError.

It has a keyword for each key of the section `data` that its entry `takes`."""


@dataclass(frozen=True)
class RawFile:
    """File as its authors publish it."""

    name: str
    sha256: str
    """Hash of the bytes that `of` names."""
    size: int
    """Bytes of what is hashed."""
    of: Literal["content", "file"] = "content"
    """content: after gunzip, so that a recompressed mirror verifies and an unpacked copy too. file: as it is,
    where the authors' archive is known by that alone."""
    urls: tuple[str, ...] = ()
    """Where it can be downloaded; none: only by hand, from the homepage."""
    unpacked: str | None = None
    """Folder that may replace an archive; its images have no published checksum."""


@dataclass(frozen=True)
class Source:
    """Entry of the catalogue."""

    title: str
    licence: str
    homepage: str
    read: Reader
    image_sizes: tuple[int, ...] | None = None
    """Sizes it can be prepared at; None: any that its images allow."""
    files: tuple[RawFile, ...] = ()
    """None for a source that is whatever path the user names."""
    packaged: Callable[[], Path] | None = None
    """The folder where a package of this machine puts the files, if it is installed."""
    takes: tuple[str, ...] = ()
    """Keys of the section `data` that its reader takes: `background`, `white`, `to_rgb`."""
    hint: str = ""
    """Another way to get the files, named in the error where they are missing."""


def open_content(path: Path) -> BinaryIO:
    """Open a file for reading its content: gunzipped if it is gzip, as it is if not."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if packed else path.open("rb")
