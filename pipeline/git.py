"""Which commit made a result, asked of git once and without failing where there is none."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

CODE = ("pipeline", "stages", "extensions", "params.yaml", "dvc.yaml", "requirements.lock")
"""What decides a result. A run's own outputs and dvc.lock are not among them, nor are notes and tests."""


@dataclass(frozen=True)
class Commit:
    """A git commit, and whether the working tree differed from it in what decides a result."""

    sha: str | None
    """40 hexadecimal digits; None outside a git checkout."""
    dirty: bool = False

    def short(self) -> str:
        """Ten digits, with `+dirty` behind them where the working tree had changes."""
        return f"{self.sha[:10]}{'+dirty' if self.dirty else ''}" if self.sha else "no git checkout"


def commit(root: Path = Path()) -> Commit:
    """The commit checked out in `root`; `Commit(None)` where there is no repository or no git."""
    sha = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--", *CODE)
    return Commit(sha or None, dirty=bool(changes))


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
