"""Where a run comes from, as tags and parameters: git, DVC, preset, stage, variant and sections."""

import getpass
from collections.abc import Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from pipeline import dvcfile, environment
from pipeline.files import sha256
from pipeline.git import commit

LONGEST = 500
"""Characters of a parameter's value; longer ones are cut."""


def root() -> Path:
    """The repository: the working folder, or the one around it where `dvc exp` runs in a copy."""
    here = Path.cwd()
    pieces = here.parts
    for i in range(len(pieces) - 2):
        if pieces[i : i + 3] == (".dvc", "tmp", "exps"):
            return Path(*pieces[:i])
    return here


def sections(stage: str, variant: str | None, params: dict[str, Any]) -> dict[str, str]:
    """The sections of params.yaml that dvc.yaml declares for a stage, as dotted keys and short values."""
    keys = dvcfile.entry(Path.cwd(), stage, variant).params
    found = {key: dvcfile.value(params, key) for key in keys}
    return {key: str(value)[:LONGEST] for key, value in flat(found)}


def tags(stage: str, variant: str | None, params: dict[str, Any]) -> dict[str, str]:
    """What a stage's run is found by: git commit, DVC's hash of each input, preset, stage, variant."""
    inputs = dvcfile.entry(Path.cwd(), stage, variant).inputs()
    hashes = dvcfile.hashes(Path.cwd(), inputs)
    return {
        **common(params),
        **made_with(),
        **{f"dvc.{path}": md5 for path, md5 in hashes.items()},
        "stage": stage,
        "variant": variant or "",
        "mlflow.source.name": f"stages/{stage}.py",
    }


def common(params: dict[str, Any]) -> dict[str, str]:
    """The tags of every run of this working tree."""
    return {**git(), **_user(), "preset": params["preset"], "mlflow.source.type": "LOCAL"}


def made_with() -> dict[str, str]:
    """What this very process works on and with; a job's, where a job does the work."""
    return {"versions": environment.versions(), "hardware": environment.hardware()}


def _user() -> dict[str, str]:
    try:
        return {"mlflow.user": getpass.getuser()}
    except (KeyError, OSError):  # a container's user without a name
        return {}


def git() -> dict[str, str]:
    """The commit, and whether what decides a result differs from it; nothing outside a git checkout."""
    here = commit()
    if here.sha is None:
        return {}
    return {"mlflow.source.git.commit": here.sha, "git.dirty": str(here.dirty).lower()}


def flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings with dotted keys."""
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            yield from flat(value, f"{name}.")
        else:
            yield name, value


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The leaves of nested mappings that are numbers, with dotted keys."""
    return {k: float(v) for k, v in flat(values) if isinstance(v, Real) and not isinstance(v, bool)}


def manifest_of(checkpoint: Path) -> str:
    """A checkpoint by the SHA-256 of its manifest, which lists those of its files; "none" without one."""
    manifest = checkpoint / "manifest.json"
    return sha256(manifest) if manifest.exists() else "none"
