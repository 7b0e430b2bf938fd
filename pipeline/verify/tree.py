"""The working tree, or a commit's, against dvc.lock: code, parameters, and what the stages wrote.

Of the code dvc.lock has the hash of the program file that each stage depends on. It is compared with the
program of the sources that are there now, whatever stands in artifacts/program.
"""

import fnmatch
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline import dvcfile, program
from pipeline.ncsn.errors import UserError
from pipeline.program import is_kind
from pipeline.verify.findings import PULL, Finding

Lock = Mapping[str, Mapping[str, Any]]
BACK = "run `dvc repro`, or take the change back"


class Tree:
    """A folder with the pipeline's sources, each of whose paths is hashed once, as DVC does it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[str, str | None] = {}
        ignore = root / ".dvcignore"
        self._ignored = ignore.read_text().split() if ignore.exists() else []

    def md5(self, path: str) -> str | None:
        """DVC's hash of a file, or of a folder with `.dir` behind it; None where there is nothing.

        A program file is hashed as `dvc repro program` would write it from the sources. Of .dvcignore only
        names are understood, which apply at any depth: this project has no others.
        """
        if dvcfile.is_program(path):
            text = self.programs.get(path)
            return None if text is None else _md5(text.encode()).hexdigest()
        if path not in self._known:
            self._known[path] = self._md5(self.root / path)
        return self._known[path]

    @cached_property
    def programs(self) -> dict[str, str]:
        """The text of each program file by path; none where the sources or params.yaml cannot be read."""
        try:
            return program.files(self.root)
        except (UserError, SyntaxError, OSError):
            return {}

    def recorded(self, path: str, md5: str) -> str | None:
        """The text of a file with this hash, from its place or DVC's cache; None where neither has it."""
        for place in (self.root / path, self.root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]):
            if place.is_file() and _md5(content := place.read_bytes()).hexdigest() == md5:
                return content.decode()
        return None

    def _md5(self, path: Path) -> str | None:
        if path.is_file():
            with path.open("rb") as file:
                return hashlib.file_digest(file, _md5).hexdigest()
        if not path.is_dir():
            return None
        listed = [
            {"md5": self._md5(file), "relpath": file.relative_to(path).as_posix()}
            for file in path.rglob("*")
            if file.is_file() and not self._skipped(file.relative_to(path))
        ]
        listed.sort(key=lambda entry: str(entry["relpath"]))
        return _md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + ".dir"

    def _skipped(self, path: Path) -> bool:
        return any(fnmatch.fnmatch(part, pattern) for part in path.parts for pattern in self._ignored)


def _md5(content: bytes = b"") -> "hashlib._Hash":
    return hashlib.md5(content, usedforsecurity=False)


def stage(
    here: Tree, lock: Lock, params: Mapping[str, Any], name: str, only: Collection[str] | None = None
) -> Iterator[Finding]:
    """What of a stage is not as dvc.lock has it: code, parameters, inputs, outputs.

    Args:
        only: the parameters that matter to the row, of a stage whose other outputs do not; None: all do.
    """
    if name not in lock:
        yield Finding(f"stage {name} of dvc.lock", "an entry", "none", f"run `dvc repro {name}`")
        return
    yield from code(here, here, lock[name], "", BACK, only is None)
    yield from parameters(lock[name], params, "params.yaml", BACK, only)
    for item in () if only is not None else (*lock[name].get("deps", ()), *lock[name].get("outs", ())):
        path = item["path"]
        if not dvcfile.is_program(path) and (found := here.md5(path)) != item["md5"]:
            yield Finding(path, item["md5"], found, _fix(path) if found else PULL)


def _fix(path: str) -> str:
    return f"run `dvc checkout --force {path}`, or `dvc repro`" if path.startswith("artifacts/") else BACK


def code(
    tree: Tree, here: Tree, locked: Mapping[str, Any], prefix: str, fix: str, kinds: bool = True
) -> Iterator[Finding]:
    """The modules of a stage that say something else than those that dvc.lock has the hash of.

    Args:
        tree: whose sources are compared.
        here: the working tree, whose files and cache have the program that was run.
        kinds: whether kinds count, as they do not of a stage that settles those of all rows.
    """
    for item in locked.get("deps", ()):
        path, md5 = item["path"], item["md5"]
        if dvcfile.is_program(path) and (found := tree.md5(path)) != md5:
            before, now = here.recorded(path, md5), tree.programs.get(path)
            if before is None or now is None:
                yield Finding(f"{prefix}{path}", md5, found or "none", fix)
            else:
                differ = _modules(before, now)
                yield from (Finding(f"{prefix}{p}", *d, fix) for p, d in differ if kinds or not is_kind(p))


def _modules(before: str, now: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """The lines in which two program files differ: a module, and its hash in each."""
    expected, found = (dict(line.split() for line in text.splitlines()) for text in (before, now))
    for path in sorted({**expected, **found}):
        if expected.get(path) != found.get(path):
            yield path, (expected.get(path, "none"), found.get(path, "none"))


def parameters(
    locked: Mapping[str, Any],
    params: Mapping[str, Any],
    prefix: str,
    fix: str,
    only: Collection[str] | None = None,
) -> Iterator[Finding]:
    """The parameters of a stage that are others than dvc.lock's.

    Args:
        only: dotted keys that matter, with all below them; None: all do.
    """
    for key, value in locked.get("params", {}).get("params.yaml", {}).items():
        for name, expected, found in _differences(key, value, _value(params, key)):
            if only is None or any(f"{name}.".startswith(f"{one}.") for one in only):
                yield Finding(f"{prefix} {name}", str(expected), str(found), fix)


def _value(params: Mapping[str, Any], key: str) -> Any:
    try:
        return dvcfile.value(dict(params), key)
    except (KeyError, TypeError):
        return "nothing"


def _differences(name: str, one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    """The leaves in which two nested mappings differ, with dotted keys."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in {**one, **other}:
            yield from _differences(f"{name}.{key}", one.get(key, "nothing"), other.get(key, "nothing"))
    elif one != other:
        yield name, one, other
