"""Stages of dvc.yaml and dvc.lock, read without importing dvc."""

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.ncsn.errors import UserError

PLACEHOLDER = re.compile(r"\$\{([^}]+)\}")
PROGRAMS = "artifacts/program/"
"""Where `pipeline.program` writes the program of each stage, which stands for its sources."""
SOURCES = ("pipeline", "stages", "extensions")


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
        """The dependencies that are source code, or the program file that stands for it."""
        return tuple(dep for dep in self.deps if dep.split("/")[0] in SOURCES or is_program(dep))

    def inputs(self) -> tuple[str, ...]:
        """The dependencies that are data: everything but code."""
        return tuple(dep for dep in self.deps if dep not in self.code())


def is_program(path: str) -> bool:
    """Whether `pipeline.program` writes a file."""
    return path.startswith(PROGRAMS)


def entry(root: Path, stage: str, key: str | None = None) -> Entry:
    """The entry of a stage in root/dvc.yaml, or the one of its instances that `key` names.

    Args:
        key: what follows the @ in dvc.lock; that of an instance of STAGE_more is found by STAGE too.

    Raises:
        UserError: there is no such stage or instance, or a placeholder names no key of params.yaml.
    """
    found = entries(root)
    names = [f"{stage}@{key}", f"{stage}_more@{key}"] if key else [stage]
    for name in names:
        if name in found:
            return found[name]
    raise UserError(f"stage {names[0]!r} is not in {root / 'dvc.yaml'}: it has {', '.join(found)}.")


def entries(root: Path) -> dict[str, Entry]:
    """Every stage of root/dvc.yaml by its name in dvc.lock: `prepare`, `train@ncsn`, `train_more@ncsn-1`.

    Raises:
        UserError: a placeholder names no key of params.yaml.
    """
    names = params(root)
    found: dict[str, Entry] = {}
    for name, stage in _read(root / "dvc.yaml").get("stages", {}).items():
        if "foreach" in stage or "matrix" in stage:
            instances = _instances(stage, names)
            found |= {f"{name}@{key}": _entry(stage.get("do", stage), own) for key, own in instances.items()}
        else:
            found[name] = _entry(stage, names)
    return found


def params(root: Path) -> dict[str, Any]:
    """The content of root/params.yaml, unchecked."""
    return _read(root / "params.yaml")


def _instances(stage: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By key, what the placeholders of each instance may name: params.yaml, `key` and `item`."""
    items = _each(stage["foreach"], params) if "foreach" in stage else _product(stage["matrix"], params)
    return {key: {**params, "key": key, "item": item} for key, item in items.items()}


def _each(data: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """The items of `foreach`: of a mapping by key, of a list each by itself."""
    items = _resolved(data, params)
    pairs = items.items() if isinstance(items, Mapping) else ((item, item) for item in items)
    return {str(key): item for key, item in pairs}


def _product(data: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """The combinations of `matrix`, by their values joined with a hyphen."""
    axes = {name: _resolved(values, params) for name, values in data.items()}
    found = itertools.product(*axes.values())
    return {"-".join(map(str, some)): dict(zip(axes, some, strict=True)) for some in found}


def _resolved(data: Any, params: Mapping[str, Any]) -> Any:
    """A list or mapping, or the one of params.yaml that a placeholder names."""
    match = PLACEHOLDER.fullmatch(data) if isinstance(data, str) else None
    return _named(match[1], params) if match else data


def lock(root: Path) -> dict[str, Any]:
    """What dvc.lock says of each stage: its deps and outs with their md5, its params; empty without one."""
    path = root / "dvc.lock"
    return dict(_read(path).get("stages", {})) if path.exists() else {}


def _entry(stage: Mapping[str, Any], names: Mapping[str, Any]) -> Entry:
    def filled(*keys: str) -> tuple[str, ...]:
        found = [item for key in keys for item in stage.get(key, [])]
        return tuple(_fill(name, names) for name in _names(found))

    return Entry(filled("deps"), filled("outs", "metrics", "plots"), filled("params"))


def value(params: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key; KeyError or TypeError where there is none."""
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


def _fill(text: str, names: Mapping[str, Any]) -> str:
    return PLACEHOLDER.sub(lambda match: str(_named(match[1], names)), text)


def _named(key: str, names: Mapping[str, Any]) -> Any:
    try:
        return value(names, key.strip())
    except (KeyError, TypeError) as error:
        raise UserError(f"dvc.yaml names ${{{key}}}, which params.yaml lacks: add it.") from error


def _read(path: Path) -> dict[str, Any]:
    return dict(YAML(typ="safe").load(path) or {})
