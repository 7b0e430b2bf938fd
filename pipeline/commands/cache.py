"""Damaged files of DVC's cache, or of a remote folder, deleted: `python -m pipeline.commands.cache`.

DVC names a cached file by the MD5 of its content, and never checks it again. A damaged one is checked out,
pushed, and kept even where the stage that made it runs again. Once it is deleted, `dvc pull` fetches it from
a remote, and `dvc repro -f STAGE` makes it again.
"""

import argparse
import hashlib
import re
import subprocess
import sys
from pathlib import Path

NAME = re.compile(r"[0-9a-f]{30}(\.dir)?")


def damaged(cache: Path) -> list[Path]:
    """The cached files whose content is not what their name says, sorted."""
    found = (path for path in (cache / "files/md5").glob("??/*") if NAME.fullmatch(path.name))
    return sorted(path for path in found if _md5(path) != path.parent.name + path.name[:30])


def lists(cache: Path, bad: list[Path]) -> list[Path]:
    """The folders' lists in which damaged files stand: as long as one is there, DVC pushes no file of it."""
    names = [path.parent.name + path.name for path in bad]
    found = (path for path in (cache / "files/md5").glob("??/*.dir") if path not in bad)
    return sorted(path for path in found if any(name in path.read_text() for name in names))


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def cache_folder() -> Path:
    """DVC's cache of this repository."""
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    return Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


def main(arguments: list[str] | None = None) -> int:
    """Remove the damaged files and name them; returns the exit code, 2 for a folder that is no cache."""
    parser = argparse.ArgumentParser("python -m pipeline.commands.cache", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="a remote's folder; by default DVC's cache")
    cache = parser.parse_args(arguments).folder or cache_folder()
    if not (cache / "files/md5").is_dir():
        sys.stderr.write(f"error: {cache} holds no files of DVC: name the cache or a remote's folder.\n")
        return 2
    bad = damaged(cache)
    for path in [*bad, *lists(cache, bad)]:
        path.unlink()
        sys.stdout.write(f"removed {path}\n")
    fix = "; bring them back by `dvc pull` or `dvc repro -f STAGE`" if bad else ""
    sys.stdout.write(f"{len(bad)} damaged files were in {cache}{fix}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
