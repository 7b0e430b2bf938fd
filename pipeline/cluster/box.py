"""Box in which files travel between this machine and a cluster that shares no file system with it.

pyarrow is imported when a box is opened: every stage imports this module.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from pipeline.ncsn.errors import UserError
from pipeline.redaction import has_secret, redact

BLOCK = 1 << 20
MANIFEST = "manifest.json"


class Box:
    """Parcels of files on their way between two machines: a place of its own in a folder or s3://bucket/path."""

    def __init__(self, storage: str, name: str) -> None:
        """
        Args:
            storage: a folder, or a URI that pyarrow knows: s3://bucket/path, gs://bucket/path.
            name: of the box, never used before.

        Raises:
            UserError: there is no such kind of storage, or the address holds keys.
        """
        if has_secret(storage):
            raise UserError(
                f"compute.job_storage {redact(storage)!r} holds keys, and params.yaml is no place for them: set "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY here, and for the cluster where it starts."
            )
        from pyarrow import fs

        self.storage = storage if "://" in storage else Path(storage).expanduser().absolute().as_uri()
        try:
            self._fs, base = fs.FileSystem.from_uri(self.storage)
        except (OSError, ValueError) as error:
            raise UserError(f"compute.job_storage {storage!r} is no folder or s3:// address ({error}).") from error
        self._base = f"{base.rstrip('/')}/{name}"

    def push(self, parcel: str, root: Path, paths: Iterable[str]) -> None:
        """Copy files and folders, given relative to `root`, into a parcel; its manifest of sha256 goes last.

        Raises:
            UserError: a path is missing here, or the storage cannot be written.
        """
        try:
            hashes = {name: self._send(root / name, f"{parcel}/{name}") for name in _files(root, paths)}
            with self._open_to_write(f"{parcel}/{MANIFEST}") as file:
                file.write(json.dumps(hashes).encode())
        except OSError as error:
            raise UserError(f"compute.job_storage {self.storage!r} cannot be written: {error}") from error

    def pull(self, parcel: str, into: Path, within: Sequence[str]) -> list[str]:
        """Copy a parcel's files into a folder, and verify them; returns their names.

        Args:
            within: files and folders, relative to `into`; the parcel may name these, and what is below them.

        Raises:
            UserError: the parcel is missing, not whole, names another file, or a file is not the one that was sent.
        """
        try:
            hashes = self._manifest(parcel)
            for name in hashes:
                if not _is_within(name, within):
                    raise UserError(
                        f"compute.job_storage {self.storage!r} holds a parcel with {name!r}, which is none of "
                        f"{', '.join(within)}: nothing was written. Find out who else can write there."
                    )
            for name, expected in hashes.items():
                if self._receive(f"{parcel}/{name}", into / name) != expected:
                    raise UserError(f"{name} was damaged in compute.job_storage {self.storage!r}: run again.")
        except OSError as error:
            raise UserError(
                f"compute.job_storage {self.storage!r} cannot be read: {error}. It must be a place that this "
                "machine and the cluster's head both reach."
            ) from error
        return list(hashes)

    def _manifest(self, parcel: str) -> dict[str, str]:
        with self._fs.open_input_stream(f"{self._base}/{parcel}/{MANIFEST}") as file:
            content = file.read()
        try:
            return {str(name): str(digest) for name, digest in json.loads(content).items()}
        except (ValueError, AttributeError) as error:
            raise UserError(f"{MANIFEST} was damaged in compute.job_storage {self.storage!r}: run again.") from error

    def delete(self) -> None:
        """Remove the box and all in it; what cannot be removed stays."""
        try:
            self._fs.delete_dir(self._base)
        except OSError:
            return

    def _send(self, path: Path, name: str) -> str:
        with path.open("rb") as source, self._open_to_write(name) as target:
            return _stream(source, target)

    def _receive(self, name: str, path: Path) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._fs.open_input_stream(f"{self._base}/{name}") as source, path.open("wb") as target:
            return _stream(source, target)

    def _open_to_write(self, name: str) -> Any:
        path = f"{self._base}/{name}"
        self._fs.create_dir(path.rsplit("/", 1)[0], recursive=True)
        return self._fs.open_output_stream(path)


def _is_within(name: str, within: Sequence[str]) -> bool:
    """Whether a name is one of the paths or below one, and cannot lead elsewhere: no `..`, not absolute."""
    pieces = name.split("/")
    plain = not {"", ".", ".."} & {*pieces} and "\0" not in name
    return plain and any(pieces[: len(own)] == own for own in (path.rstrip("/").split("/") for path in within))


def _files(root: Path, paths: Iterable[str]) -> Iterator[str]:
    """The files at or below each path, relative to `root`."""
    for path in paths:
        if not (root / path).exists():
            raise UserError(f"{root / path} is missing: run `dvc repro` to make it.")
        found = [root / path] if (root / path).is_file() else sorted((root / path).rglob("*"))
        yield from (str(item.relative_to(root)) for item in found if item.is_file())


def _stream(source: IO[bytes], target: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := source.read(BLOCK):
        digest.update(block)
        target.write(block)
    return digest.hexdigest()
