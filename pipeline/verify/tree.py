"""The working tree, or a commit's, against dvc.lock: code, parameters, and what the stages wrote."""

import fnmatch
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline import dvcfile
from pipeline.verify.findings import PULL, Finding

Lock = Mapping[str, Mapping[str, Any]]


class Tree:
    """A folder, each of whose paths is hashed once, as DVC does it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[str, str | None] = {}
        ignore = root / ".dvcignore"
        self._ignored = ignore.read_text().split() if ignore.exists() else []

    def md5(self, path: str) -> str | None:
        """DVC's hash of a file, or of a folder with `.dir` behind it; None where there is nothing.

        Of .dvcignore only names are understood, which apply at any depth; so are this project's.
        """
        if path not in self._known:
            self._known[path] = self._md5(self.root / path)
        return self._known[path]

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


def stage(tree: Tree, lock: Lock, params: Mapping[str, Any], name: str) -> Iterator[Finding]:
    """What of a stage is not as dvc.lock has it: code, parameters, inputs, outputs."""
    if name not in lock:
        yield Finding(f"stage {name} of dvc.lock", "an entry", "none", f"run `dvc repro {name}`")
        return
    yield from parameters(lock[name], params, "params.yaml", "run `dvc repro`, or take the change back")
    for item in (*lock[name].get("deps", ()), *lock[name].get("outs", ())):
        path, found = item["path"], tree.md5(item["path"])
        if found != item["md5"]:
            yield Finding(path, item["md5"], found, _mend(path) if found else PULL)


def _mend(path: str) -> str:
    if path.startswith("artifacts/"):
        return f"run `dvc checkout --force {path}`, or `dvc repro`"
    return "run `dvc repro`, or take the change back"


def code(tree: Tree, locked: Mapping[str, Any], prefix: str, mend: str) -> Iterator[Finding]:
    """The sources of a stage that are others than dvc.lock's."""
    for item in locked.get("deps", ()):
        if not item["path"].startswith("artifacts/") and (found := tree.md5(item["path"])) != item["md5"]:
            yield Finding(f"{prefix}{item['path']}", item["md5"], found or "none", mend)


def parameters(
    locked: Mapping[str, Any], params: Mapping[str, Any], prefix: str, mend: str
) -> Iterator[Finding]:
    """The parameters of a stage that are others than dvc.lock's."""
    for key, value in locked.get("params", {}).get("params.yaml", {}).items():
        for name, expected, found in _differences(key, value, _value(params, key)):
            yield Finding(f"{prefix} {name}", str(expected), str(found), mend)


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
