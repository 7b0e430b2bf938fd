"""Files in the exact formats of the real ones, as bytes."""

import io
import struct
import tarfile
import zipfile
import zlib
from typing import Any

import numpy as np
from PIL import Image


def idx(array: np.ndarray) -> bytes:
    """The IDX file of an array of bytes."""
    return idx_header(*array.shape) + array.tobytes()


def idx_header(*shape: int, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


def encoded(array: np.ndarray, mode: str | None = None, kind: str = "png", **options: Any) -> bytes:
    """An image file of pixels (H, W) or (H, W, C), converted to a mode of Pillow's, with Pillow's options."""
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


def picture(*shape: int, mode: str | None = None, kind: str = "png", **options: Any) -> bytes:
    """An image file of random pixels."""
    return encoded(np.random.default_rng(0).integers(0, 256, shape, np.uint8), mode, kind, **options)


def animated(kind: str, height: int, width: int) -> bytes:
    """A file of three colour images: frames or pages."""
    first, *others = (Image.new("RGB", (width, height), colour) for colour in ("red", "lime", "blue"))
    buffer = io.BytesIO()
    first.save(buffer, kind, save_all=True, append_images=others)
    return buffer.getvalue()


def raw_png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG by hand, for what Pillow does not write; colour 0 is grey, 2 RGB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def npz(compressed: bool = False, **arrays: Any) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def unzipped(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def tarred(members: dict[str, bytes | str]) -> bytes:
    """A .tar.gz; a member that is a str is a symbolic link to it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(data, str):
                info.type, info.linkname = tarfile.SYMTYPE, data
            else:
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data.encode() if isinstance(data, str) else data))
    return buffer.getvalue()
