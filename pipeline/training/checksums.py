"""Checksummed folders: used only while every byte in them is the one that was written."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline import files
from pipeline.ncsn.errors import UserError

MANIFEST = "manifest.json"
SNAPSHOTS = "snapshots"
"""A folder of folders, each verified by itself."""


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file in a folder but its manifest, by name; snapshots have manifests of their own."""
    found = (path for path in sorted(folder.iterdir()) if path.name not in (MANIFEST, SNAPSHOTS))
    return {path.name: files.sha256(path) for path in found}


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `folder` once it is whole and on the disk.

    Order: the files, their fsync, the manifest, the folder's fsync, the rename, the parent's fsync. A crash
    before the rename leaves nothing under the final name; an exception removes the partial folder too.
    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        for path in part.iterdir():
            fsync(path)
        files.write_text(part / MANIFEST, _text(hashes(part)))
        fsync(part)
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
        fsync(folder.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def fsync(path: Path) -> None:
    """Force a file's content, or a folder's entries, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def verify(folder: Path) -> None:
    """Compare a folder with its manifest, in every byte of both.

    Raises:
        UserError: a file is missing, added, cut short or altered, or there is no manifest.
    """
    try:
        claimed = files.read_json(folder / MANIFEST)
        found = hashes(folder)
        exact = (folder / MANIFEST).read_text() == _text(found)
    except (UserError, OSError) as error:
        raise _damaged(folder, f"{MANIFEST} is missing or unreadable") from error
    if not exact:
        raise _damaged(folder, _difference(claimed, found))


def _text(claimed: dict[str, str]) -> str:
    return json.dumps(claimed, indent=2, sort_keys=True) + "\n"


def _damaged(folder: Path, what: str) -> UserError:
    return UserError(f"the checkpoint {folder} is damaged ({what}): delete it and run again.")


def _difference(claimed: object, found: dict[str, str]) -> str:
    if not isinstance(claimed, dict):
        return f"{MANIFEST} is not a list of files"
    names = sorted({name for name in {*claimed, *found} if claimed.get(name) != found.get(name)})
    return f"{', '.join(names) or MANIFEST} differs from what was written"
