"""The commits that a row names, against dvc.lock: whether what stands there can have made it."""

import io
import subprocess
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from pipeline.files import read_yaml
from pipeline.reporting.lineage import Made
from pipeline.verify import tree
from pipeline.verify.findings import AGAIN, Finding
from pipeline.verify.tree import Lock, Tree

HELD = ("pipeline", "stages", "extensions", "params.yaml", "dvc.yaml", ".dvcignore")


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


def findings(
    history: History, here: Tree, made: Made, lock: Lock, chain: Mapping[str, Collection[str] | None]
) -> Iterator[Finding]:
    """What of a run's commit speaks against it: it is not there, or holds other code or parameters.

    Where the working tree had changes, the commit alone made nothing, and only its being there is looked at.
    Of the report's own commit the whole chain is.

    Args:
        here: the working tree.
        chain: the stages of the row, with the parameters that matter, see `tree.parameters`.
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
            yield from tree.code(there, here, lock[name], f"{what}: ", fix, only is None)
            yield from tree.parameters(lock[name], params, f"{what}: params.yaml", fix, only)
