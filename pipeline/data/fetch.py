"""Files of a source: found on this machine or downloaded, then verified."""

import dataclasses
import hashlib
import os
import zlib
from pathlib import Path

from pipeline.data.download import BROKEN, CHUNK, download
from pipeline.data.source import RawFile, Source, open_content
from pipeline.files import in_a_copy
from pipeline.ncsn.errors import UserError

CELEBA_PARTS = ("Img", "Eval", "Anno")
"""Folders of CelebA's own layout, in which its files may lie."""


def locate(name: str, source: Source, given: str | None) -> list[Path]:
    """The verified files of a source in the catalogue's order, or the one path of a source that has none.

    Args:
        given: `data.source`: a folder that holds the files, or the file itself where there is one; or the
            https address of a folder that mirrors them. None: the package's folder, or else the cache, into
            which what is missing is downloaded.

    Raises:
        UserError: naming the missing, unreachable or corrupt file, where to put it and where it comes from.
    """
    mirrored = given is not None and "://" in given
    if not source.files:
        return [_users_path(name, given, mirrored)]
    if given is None:
        found = _anywhere(name, source)
    elif mirrored:
        found = _cached(name, _mirror(source, given))
    else:
        found = _in_folder(name, source, Path(given))
    for file, path in zip(source.files, found, strict=True):
        if path.is_file():
            verify(file, path)
    return found


def cache_folder(name: str) -> Path:
    """Where downloads are kept: outside the repository, so that a fresh clone finds them again."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ncsn-pipeline" / name


def verify(file: RawFile, path: Path) -> None:
    """Compare size and sha256 with the catalogue's; raises UserError naming the file."""
    digest, size = hashlib.sha256(), 0
    try:
        with open_content(path) if file.of == "content" else path.open("rb") as stream:
            while (data := stream.read(CHUNK)) and size <= file.size:
                digest.update(data)
                size += len(data)
    except (EOFError, zlib.error, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}): {_fix(file)}") from error
    if size != file.size:
        less = "fewer" if size < file.size else "more"
        raise UserError(f"{path} has {less} than the {file.size} bytes of {file.name}: {_fix(file)}")
    if digest.hexdigest() != file.sha256:
        raise UserError(
            f"{path} is not the published {file.name}: its sha256 is {digest.hexdigest()}, "
            f"not {file.sha256}. {_fix(file)}"
        )


def _fix(file: RawFile) -> str:
    origin = f", downloaded again from {file.urls[0]}" if file.urls else ""
    return f"delete it or put the right file there{origin}."


def _users_path(name: str, given: str | None, mirrored: bool) -> Path:
    if given is None:
        raise UserError(f"data.source: null, but data.name: {name} needs the path of your images there.")
    if mirrored:
        raise UserError(
            f"data.source: {given} is an address, but of {name} no checksum is published to hold a download "
            "to: download it yourself and give its path."
        )
    path = Path(given)
    if not path.exists():
        raise UserError(f"data.source: {given} does not exist{in_a_copy(path)}: give the path of your images.")
    return path


def _mirror(source: Source, address: str) -> Source:
    """The source with its files at another address."""
    files = (dataclasses.replace(file, urls=(f"{address.rstrip('/')}/{file.name}",)) for file in source.files)
    return dataclasses.replace(source, files=tuple(files))


def _find(file: RawFile, folder: Path) -> Path | None:
    names = [file.name, file.name.removesuffix(".gz") if file.of == "content" else file.name]
    for place in (folder, *(folder / part for part in CELEBA_PARTS)):
        for path in (place / name for name in names):
            if path.is_file():
                return path
        if file.unpacked and (place / file.unpacked).is_dir():
            return place / file.unpacked
    return None


def _in_folder(name: str, source: Source, given: Path) -> list[Path]:
    if not given.exists():
        needs = _needs(name, source, source.files, given)
        raise UserError(f"data.source: {given} does not exist{in_a_copy(given)}. {needs}")
    if given.is_file() and len(source.files) == 1:
        return [given]
    found = {file: _find(file, given) for file in source.files}
    missing = tuple(file for file, path in found.items() if path is None)
    if missing:
        raise UserError(f"data.source: {given} lacks files. {_needs(name, source, missing, given)}")
    return [path for path in found.values() if path]


def _anywhere(name: str, source: Source) -> list[Path]:
    if source.packaged:
        found = [_find(file, source.packaged()) for file in source.files]
        if all(found):
            return [path for path in found if path]
    return _cached(name, source)


def _cached(name: str, source: Source) -> list[Path]:
    cache = cache_folder(name)
    return [_find(file, cache) or _download(name, source, file, cache) for file in source.files]


def _needs(name: str, source: Source, missing: tuple[RawFile, ...], folder: Path) -> str:
    lines = [f"  {file.name}  from {' or '.join(file.urls) or source.homepage}" for file in missing]
    return (
        f"{name} needs, in {folder} or in a folder that data.source in params.yaml names:\n"
        + "\n".join(lines)
        + f"\nsee {source.homepage}{'; ' * bool(source.hint)}{source.hint}"
    )


def _download(name: str, source: Source, file: RawFile, folder: Path) -> Path:
    largest = file.size + (CHUNK if file.of == "content" else 0)  # what does not compress grows a little
    reasons = []
    for url in file.urls:
        try:
            return download(url, folder / file.name, largest=largest, accept=lambda part: verify(file, part))
        except (*BROKEN, UserError) as error:
            reasons.append(f"{url}: {error}")
    missing = tuple(f for f in source.files if _find(f, folder) is None)
    why = f"could not be downloaded ({'; '.join(reasons)})" if reasons else "has to be fetched by hand"
    raise UserError(f"{file.name} is missing and {why}. {_needs(name, source, missing, folder)}")
