"""Sources of the working tree and of commits against dvc.lock: code, parameters, and what the stages wrote.

Of the code dvc.lock has the hash of the program file that each stage depends on. It is compared with the
program of the sources that are there now, whatever is in artifacts/program.
"""

import fnmatch
import hashlib
import io
import json
import subprocess
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TypedDict

from pipeline import dvcfile, program
from pipeline.files import read_yaml
from pipeline.ncsn.errors import UserError
from pipeline.program import is_kind
from pipeline.reporting.lineage import Made, Parameters
from pipeline.verify import AGAIN, PULL, Finding


class LockedPath(TypedDict):
    """Path of dvc.lock with its hash."""

    path: str
    md5: str


class LockedStage(TypedDict, total=False):
    """Stage of dvc.lock."""

    deps: list[LockedPath]
    outs: list[LockedPath]
    params: dict[str, dict[str, object]]


Lock = Mapping[str, LockedStage]
HELD = ("pipeline", "stages", "extensions", "params.yaml", "dvc.yaml", ".dvcignore")
BACK = "run `dvc repro`, or take the change back"


class Tree:
    """A folder with the pipeline's sources, each of whose paths is hashed once, as DVC does it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[str, str | None] = {}
        ignore = root / ".dvcignore"
        self._ignored = ignore.read_text().split() if ignore.exists() else []

    def md5(self, path: str) -> str | None:
        """DVC's hash of a file, or of a folder with the suffix `.dir`; None where there is nothing.

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


def stage_findings(
    here: Tree, lock: Lock, params: Parameters, name: str, only: Collection[str] | None = None
) -> Iterator[Finding]:
    """Findings of a stage against dvc.lock: code, parameters, inputs, outputs.

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


def code(tree: Tree, here: Tree, locked: LockedStage, prefix: str, fix: str, kinds: bool = True) -> Iterator[Finding]:
    """Findings of a stage's modules that differ from those that dvc.lock has the hash of.

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
    locked: LockedStage, params: Parameters, prefix: str, fix: str, only: Collection[str] | None = None
) -> Iterator[Finding]:
    """Findings of a stage's parameters against dvc.lock.

    Args:
        only: dotted keys that matter, with all below them; None: all do.
    """
    for key, value in locked.get("params", {}).get("params.yaml", {}).items():
        for name, expected, found in dvcfile.differences(key, value, _value(params, key)):
            if only is None or any(f"{name}.".startswith(f"{one}.") for one in only):
                yield Finding(f"{prefix} {name}", str(expected), str(found), fix)


def _value(params: Parameters, key: str) -> object:
    try:
        return dvcfile.value(dict(params), key)
    except (KeyError, TypeError):
        return "nothing"


class History:
    """The commits of a repository, each unpacked once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._place = tempfile.TemporaryDirectory()
        self._trees: dict[str, Tree | None] = {}

    def close(self) -> None:
        """Remove what was unpacked."""
        self._place.cleanup()

    def tree(self, commit: str) -> Tree | None:
        """A commit's code, params.yaml and dvc.yaml; None where this clone does not have it."""
        if commit not in self._trees:
            self._trees[commit] = self._unpacked(commit)
        return self._trees[commit]

    def _unpacked(self, commit: str) -> Tree | None:
        names = self._git("ls-tree", "--name-only", "-z", commit, *HELD)
        held = names.decode().split("\0")[:-1] if names else []
        content = self._git("archive", "--format=zip", commit, *held) if held else None
        if not content:
            return None
        folder = Path(self._place.name) / commit
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            archive.extractall(folder)
        return Tree(folder)

    def _git(self, *arguments: str) -> bytes | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=self._root, capture_output=True, timeout=60)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout if done.returncode == 0 else None


def commit_findings(
    history: History, here: Tree, made: Made, lock: Lock, chain: Mapping[str, Collection[str] | None]
) -> Iterator[Finding]:
    """Findings of a run's commit: it is missing, or holds other code or parameters.

    Where the working tree had changes, the commit alone made nothing, and only its being there is looked at.
    Of the report's own commit the whole chain is.

    Args:
        here: the working tree.
        chain: the stages of the row, with the parameters that matter, see `parameters`.
    """
    if made.commit is None:
        return
    what = f"commit {made.commit[:10]} of {made.stage}"
    if (there := history.tree(made.commit)) is None:
        yield Finding(what, None, None, f"run `git fetch --unshallow`, or {AGAIN}")
    elif not made.dirty:
        yield from _contents(what, there, here, made.stage, lock, chain)


def _contents(
    what: str, there: Tree, here: Tree, stage: str, lock: Lock, chain: Mapping[str, Collection[str] | None]
) -> Iterator[Finding]:
    params_file = there.root / "params.yaml"
    params = read_yaml(params_file) if params_file.exists() else {}
    fix = f"commit, then run `dvc repro`; or {AGAIN}"
    for name, only in chain.items():
        if name in lock and stage in (name.partition("@")[0].removesuffix("_more"), "report"):
            yield from code(there, here, lock[name], f"{what}: ", fix, only is None)
            yield from parameters(lock[name], params, f"{what}: params.yaml", fix, only)
