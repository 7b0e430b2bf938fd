"""Stages of dvc.yaml and dvc.lock, read without importing dvc."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.files import read_settings
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
    whole, found = _Scope(params(root)), dict[str, Entry]()
    for name, stage in _read(root / "dvc.yaml").get("stages", {}).items():
        if "foreach" in stage or "matrix" in stage:
            for key, item in whole.items(stage.get("foreach"), stage.get("matrix")):
                found[f"{name}@{key}"] = whole.of_instance(key, item).entry(stage.get("do", stage))
        else:
            found[name] = whole.entry(stage)
    return found


def params(root: Path) -> dict[str, Any]:
    """The content of root/params.yaml, unchecked."""
    return dict(read_settings(root / "params.yaml") or {})


@dataclass(frozen=True)
class _Scope:
    """What the placeholders of a stage may name: params.yaml and, of an instance, `key` and `item`."""

    names: Mapping[str, Any]

    def of_instance(self, key: str, item: object) -> "_Scope":
        return _Scope({**self.names, "key": key, "item": item})

    def items(self, foreach: object, matrix: Mapping[str, object] | None) -> Iterator[tuple[str, object]]:
        """The instances of a template, by key.

        Of `foreach` a mapping's items by key, a list's each by itself; of `matrix` the combinations by their
        values, joined with a hyphen.
        """
        if matrix is None:
            items = self._resolved(foreach)
            yield from items.items() if isinstance(items, Mapping) else ((str(one), one) for one in items)
            return
        axes = {name: self._resolved(values) for name, values in matrix.items()}
        for some in itertools.product(*axes.values()):
            yield "-".join(map(str, some)), dict(zip(axes, some, strict=True))

    def entry(self, stage: Mapping[str, Sequence[object]]) -> Entry:
        """A stage with its placeholders filled in; DVC writes an item as `name` or as `name: {settings}`."""

        def filled(*keys: str) -> tuple[str, ...]:
            items = (item for key in keys for item in stage.get(key, []))
            return tuple(self._fill(next(iter(one)) if isinstance(one, dict) else str(one)) for one in items)

        return Entry(filled("deps"), filled("outs", "metrics", "plots"), filled("params"))

    def _resolved(self, data: Any) -> Any:
        """A list or mapping, or the one of params.yaml that a placeholder names."""
        match = PLACEHOLDER.fullmatch(data) if isinstance(data, str) else None
        return self._named(match[1]) if match else data

    def _fill(self, text: str) -> str:
        return PLACEHOLDER.sub(lambda match: str(self._named(match[1])), text)

    def _named(self, key: str) -> Any:
        try:
            return value(self.names, key.strip())
        except (KeyError, TypeError) as error:
            raise UserError(f"dvc.yaml names ${{{key}}}, which params.yaml lacks: add it.") from error


def lock(root: Path) -> dict[str, Any]:
    """What dvc.lock says of each stage: its deps and outs with their md5, its params; empty without one."""
    path = root / "dvc.lock"
    return dict(_read(path).get("stages", {})) if path.exists() else {}


def value(params: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key; KeyError or TypeError where there is none."""
    here: Any = params
    for piece in key.split("."):
        here = here[piece]
    return here


def differences(name: str, one: object, other: object) -> Iterator[tuple[str, object, object]]:
    """The leaves in which two nested mappings differ, with dotted keys."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in {**one, **other}:
            yield from differences(f"{name}.{key}", one.get(key, "nothing"), other.get(key, "nothing"))
    elif one != other:
        yield name, one, other


def hashes(root: Path, paths: Iterable[str]) -> dict[str, str]:
    """DVC's hash of each path as dvc.lock records it, of the nearest tracked folder above for a part of one.

    Paths that no finished stage wrote are left out.
    """
    known = {out["path"]: out["md5"] for stage in lock(root).values() for out in stage.get("outs", [])}
    tracked = {path: next((p for p in _upwards(path) if p in known), None) for path in paths}
    return {path: known[out] for path, out in tracked.items() if out}


def _upwards(path: str) -> list[str]:
    return [path, *(str(parent) for parent in Path(path).parents)]


def _read(path: Path) -> dict[str, Any]:
    return dict(YAML(typ="safe").load(path) or {})
