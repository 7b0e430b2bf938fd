"""Archives read member by member and never extracted; archive bombs are refused."""

import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.ncsn.errors import UserError

MAX_MEMBERS = 1_000_000
MAX_BYTES = 256 << 30
"""Of all members together, unpacked."""
MAX_RATIO = 200
"""Of unpacked to packed bytes: images seldom reach 10, a bomb 1,000."""


@contextmanager
def zip_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive whose members keep within the caps.

    Raises:
        UserError: naming the archive, where it breaks a cap or is damaged or locked, on opening or reading.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = 0
            for number, member in enumerate(archive.filelist, 1):
                size += member.file_size
                _check(path, number, size)
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise UserError(f"{path} is no zip archive, or a damaged or locked one ({error}).") from error


@contextmanager
def tar_archive(path: Path) -> Iterator[tarfile.TarFile]:
    """Open a tar archive, packed or not, whose members keep within the caps.

    Raises:
        UserError: naming the archive, where it breaks a cap or is damaged, on opening or reading.
    """
    try:
        with tarfile.open(path, "r:*") as archive:
            size = 0
            for number, member in enumerate(archive, 1):
                size += member.size
                _check(path, number, size)  # before the next header, which lies behind these bytes
            yield archive
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise UserError(f"{path} is a damaged archive ({error}): fetch it again.") from error


def _check(path: Path, members: int, size: int) -> None:
    if members > MAX_MEMBERS:
        raise UserError(f"{path} is refused: it has more than {MAX_MEMBERS} members.")
    if size > MAX_BYTES:
        raise UserError(f"{path} is refused: unpacked it has more than {MAX_BYTES} bytes.")
    if size > MAX_RATIO * path.stat().st_size:
        raise UserError(
            f"{path} is refused: unpacked it has more than {MAX_RATIO} times its own size, as a bomb has. "
            "If it is yours, save it uncompressed (np.savez)."
        )
