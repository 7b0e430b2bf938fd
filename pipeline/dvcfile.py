"""What dvc.yaml and dvc.lock say of one stage, read without importing dvc."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.ncsn.errors import UserError

PLACEHOLDER = re.compile(r"\$\{([^}]+)\}")


@dataclass(frozen=True)
class Entry:
    """One stage of dvc.yaml with its placeholders filled in."""

    deps: tuple[str, ...]
    """Files and folders it reads."""
    outs: tuple[str, ...]
    """Files and folders it writes: outs, metrics and plots."""
    params: tuple[str, ...]
    """Dotted keys of params.yaml it reads."""

    def code(self) -> tuple[str, ...]:
        """The dependencies that are source code."""
        return tuple(dep for dep in self.deps if dep.split("/")[0] in ("pipeline", "stages"))

    def inputs(self) -> tuple[str, ...]:
        """The dependencies that are data: everything but code."""
        return tuple(dep for dep in self.deps if dep not in self.code())


def entry(root: Path, stage: str, variant: str | None = None) -> Entry:
    """The entry of a stage in root/dvc.yaml, its placeholders filled in.

    Args:
        variant: fills `${key}`; it is `V`, or `V-S` for a further seed S, and V fills `${item.variant}`. The
            rest comes from params.yaml.

    Raises:
        UserError: there is no such stage, or a placeholder names no key of params.yaml.
    """
    stages = _read(root / "dvc.yaml").get("stages", {})
    if stage not in stages:
        raise UserError(f"stage {stage!r} is not in {root / 'dvc.yaml'}: it has {', '.join(stages)}.")
    return _entry(stages[stage], variant, _read(root / "params.yaml"))


def entries(root: Path) -> dict[str, Entry]:
    """Every stage of root/dvc.yaml by its name in dvc.lock: `prepare`, `train@ncsn`, `train_more@ncsn-1`."""
    params = _read(root / "params.yaml")
    found: dict[str, Entry] = {}
    for name, stage in _read(root / "dvc.yaml").get("stages", {}).items():
        keys = _keys(stage.get("matrix", {}), params)
        found |= {f"{name}@{key}" if key else name: _entry(stage, key, params) for key in keys}
    return found


def _keys(matrix: dict[str, Any], params: dict[str, Any]) -> list[str | None]:
    """What fills `${key}`: each variant, or each with each further seed; None where there is no matrix."""
    if "seed" in matrix:
        return [f"{variant}-{seed}" for variant in params["variants"] for seed in params["more_seeds"]]
    return list(params["variants"]) if matrix else [None]


def lock(root: Path) -> dict[str, Any]:
    """What dvc.lock says of each stage: its deps and outs with their md5, its params; empty without one."""
    path = root / "dvc.lock"
    return dict(_read(path).get("stages", {})) if path.exists() else {}


def _entry(stage: dict[str, Any], variant: str | None, params: dict[str, Any]) -> Entry:
    def names(*keys: str) -> tuple[str, ...]:
        found = [item for key in keys for item in stage.get(key, [])]
        return tuple(_fill(name, variant, params) for name in _names(found))

    return Entry(names("deps"), names("outs", "metrics", "plots"), names("params"))


def value(params: dict[str, Any], key: str) -> Any:
    """The value at a dotted key; KeyError where there is none."""
    here: Any = params
    for piece in key.split("."):
        here = here[piece]
    return here


def hashes(root: Path, paths: Iterable[str]) -> dict[str, str]:
    """DVC's hash of each path as dvc.lock records it, of the nearest tracked folder above for a part of one.

    Paths that no finished stage wrote are left out.
    """
    known = {out["path"]: out["md5"] for stage in lock(root).values() for out in stage.get("outs", [])}
    tracked = {path: next((p for p in _upwards(path) if p in known), None) for path in paths}
    return {path: known[out] for path, out in tracked.items() if out}


def _upwards(path: str) -> list[str]:
    return [path, *(str(parent) for parent in Path(path).parents)]


def _names(items: Iterable[Any]) -> list[str]:
    """DVC writes an item as `name` or as `name: {settings}`."""
    return [next(iter(item)) if isinstance(item, dict) else item for item in items]


def _fill(text: str, variant: str | None, params: dict[str, Any]) -> str:
    def replacement(match: re.Match[str]) -> str:
        key = match[1].strip()
        if key == "key":
            return str(variant)
        if key == "item.variant":
            head = str(variant).rpartition("-")[0]
            return head if variant not in params["variants"] and head in params["variants"] else str(variant)
        try:
            return str(value(params, key))
        except (KeyError, TypeError) as error:
            raise UserError(f"dvc.yaml names ${{{key}}}, which params.yaml lacks: add it.") from error

    return PLACEHOLDER.sub(replacement, text)


def _read(path: Path) -> dict[str, Any]:
    return dict(YAML(typ="safe").load(path) or {})
