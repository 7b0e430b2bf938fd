"""The reference of params.yaml from the typed schema: key, type, bounds, default preset's value, meaning."""

import ast
import collections.abc
import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from pipeline.ncsn.kinds import find
from pipeline.ncsn.kinds import kinds as all_kinds
from pipeline.params import Params
from pipeline.params.kinds import ByKind

ROOT = Path(__file__).parents[2]
ENTRIES = {
    "noise": "NETWORK",
    "recipes": "NETWORK",
    "sampler": "ROW",
    "rows": "ROW",
    "extra_rows": "ROW-SEED",
}
"""What the keys of a mapping are, by section."""
MAPPINGS = {
    "tune_sampler.baseline.sampler": "tune_sampler.baseline.sampler",
    "frontier.options": "frontier.KIND",
}
"""Fields whose content another section explains, by the key that they are in the file."""
ABSENT = ("compute.most_workers",)
"""Fields of the schema that are no keys of the file."""
SIGNS = {"gt": "above {}", "ge": "at least {}", "lt": "below {}", "le": "at most {}"}


@dataclasses.dataclass(frozen=True)
class Key:
    """A key of params.yaml."""

    path: tuple[str, ...]
    type: str
    bounds: str
    meaning: str
    kind: str | None = None
    """The kind that has it, of the settings around it."""

    @property
    def dotted(self) -> str:
        return ".".join(self.path)


def page() -> str:
    """A heading and a table for each section of params.yaml."""
    keys = list(walk(Params, ()))
    single = [key for key in keys if len(key.path) == 1]
    parts = ["## Top level", _table(single)]
    for name in dict.fromkeys(key.path[0] for key in keys if len(key.path) > 1):
        parts += [
            f"## {name}",
            *filter(None, [_comment((name,))]),
            _table([k for k in keys if k.path[0] == name]),
        ]
    return "\n\n".join(parts)


def _table(keys: list[Key]) -> str:
    head = "| key | type | bounds | default preset | meaning |\n|---|---|---|---|---|"
    return "\n".join([head, *map(_row, keys)])


def _row(key: Key) -> str:
    kind = f" ({key.kind})" if key.kind and key.path[-1] not in ("kind", "from") else ""
    cells = f"`{key.dotted}`{kind}", key.type, key.bounds, _default(key), key.meaning
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def walk(model: type, path: tuple[str, ...], kind: str | None = None) -> Iterator[Key]:
    """All keys below a section or a kind's settings, in the order of the code."""
    for name, annotation, metadata in _fields(model):
        if name != "kind" and ".".join((*path, name)) not in ABSENT:
            yield from _key(model, (*path, name), annotation, metadata, kind)


def _fields(model: type) -> Iterator[tuple[str, Any, list[Any]]]:
    """A field's key in params.yaml, its type, and what is said of it."""
    if issubclass(model, BaseModel):
        for name, field in model.model_fields.items():
            yield field.alias or name, field.annotation, list(field.metadata)
        return
    hints = typing.get_type_hints(model, include_extras=True)
    yield from ((field.name, hints[field.name], []) for field in dataclasses.fields(model))


def _key(model: type, path: tuple[str, ...], annotation: Any, metadata: list, kind: str | None) -> Iterator[Key]:
    if key := MAPPINGS.get(".".join(path)):
        yield Key(tuple(key.split(".")), "mapping", "", _meaning(model, tuple(key.split(".")), kind), kind)
        return
    annotation, metadata = _bare(annotation, metadata)
    if get_origin(annotation) in (dict, collections.abc.Mapping):
        path, annotation = (*path, ENTRIES.get(path[0], "NAME")), get_args(annotation)[1]
        annotation, metadata = _bare(annotation, [])
    parts = _sections(annotation, metadata)
    named = [name for names, _ in parts for name in names if name != "from"]
    if named:
        yield Key((*path, "kind"), _choice(named), "", _meaning(model, (*path, "kind"), kind), kind)
    if not parts:
        yield Key(path, _type(annotation), _bounds(annotation, metadata), _meaning(model, path, kind), kind)
    for names, part in parts:
        yield from walk(part, path, ", ".join(names) or kind)


def _bare(annotation: Any, metadata: list) -> tuple[Any, list]:
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        metadata = [*metadata, *more]
    return annotation, metadata


def _sections(annotation: Any, metadata: list) -> list[tuple[list[str], type]]:
    """The sections that a key may hold, each with the kinds that it is of; none, where it holds a value."""
    rooms = [item.room for item in metadata if isinstance(item, ByKind)]
    found = [(name, find(room, name)) for room in rooms for name in all_kinds(room)]
    for part in get_args(annotation) if _is_union(annotation) else (annotation,):
        part, more = _bare(part, [])
        if inspect.isclass(part) and issubclass(part, BaseModel):
            found += [(name, part) for name in _names(part, more)]
    own: dict[type, list[str]] = {}
    for name, settings in found:
        own.setdefault(settings, []).append(name)
    return [(list(dict.fromkeys(filter(None, names))), settings) for settings, names in own.items()]


def _names(part: type[BaseModel], metadata: list) -> list[str]:
    """The kinds of a section; those whose key `from` tells it apart have `from`."""
    if "from_" in part.model_fields:
        return ["from"]
    kind = part.model_fields.get("kind")
    return list(get_args(kind.annotation)) if kind else [""]


def _choice(values: list[str]) -> str:
    return " or ".join(f"`{value}`" for value in dict.fromkeys(values))


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (typing.Union, types.UnionType)


def _type(annotation: Any) -> str:
    annotation, _ = _bare(annotation, [])
    if get_origin(annotation) is Literal:
        return _choice([str(value) for value in get_args(annotation)])
    if _is_union(annotation):
        return " or ".join(map(_type, get_args(annotation)))
    if get_origin(annotation) in (list, tuple):
        return f"list of {_type(get_args(annotation)[0])}"
    words = {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "null"}
    return words.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _bounds(annotation: Any, metadata: list) -> str:
    parts = [*_limits(metadata)]
    for inner in get_args(annotation):
        if get_origin(inner) is Annotated:
            parts += _bounds(*_bare(inner, [])).split("; ")
    found = "; ".join(dict.fromkeys(filter(None, parts)))
    return found.replace("at least 2 of them; at most 2 of them", "two of them")


def _limits(metadata: list) -> Iterator[str]:
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from _limits(item.metadata)
        elif isinstance(item, annotated_types.Len | annotated_types.MinLen | annotated_types.MaxLen):
            yield from _length(item)
        else:
            found = {text: getattr(item, sign) for sign, text in SIGNS.items() if hasattr(item, sign)}
            yield from (text.format("2³¹" if bound == 2**31 else bound) for text, bound in found.items())
            if getattr(item, "pattern", None):
                yield f"like `{item.pattern}`"


def _length(item: Any) -> Iterator[str]:
    for word in ("least", "most"):
        if (count := getattr(item, "min_length" if word == "least" else "max_length", None)) is not None:
            yield f"at {word} {count} of them"


@functools.cache
def _file() -> CommentedMap:
    return YAML().load(ROOT / "conf/digits.yaml")


@functools.cache
def _words() -> Mapping[str, str]:
    return YAML(typ="safe").load(Path(__file__).parent / "meanings.yaml")


def _default(key: Key) -> str:
    found = list(_values(_file(), key.path, key.kind))
    if key.type == "mapping":
        found = [value for value in found if isinstance(value, Mapping)]
    return f"`{_plain(found[0])}`" if found else ""


def _values(node: Any, path: tuple[str, ...], kind: str | None) -> Iterator[Any]:
    """Values at a path, in which a capital part is any key; with a kind, those in settings of that kind."""
    if not path:
        yield node
    elif isinstance(node, Mapping):
        if kind and len(path) == 1 and not _is_of(node, kind.split(", ")):
            return
        for name in list(node) if path[0].isupper() else [path[0]]:
            if name in node:
                yield from _values(node[name], path[1:], kind)


def _is_of(node: Mapping[str, Any], kinds: list[str]) -> bool:
    return "from" in kinds if "from" in node else node.get("kind") in kinds or "kind" not in node


def _plain(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_plain(item)}' for key, item in value.items())}}}"
    return f"{float(value):g}" if isinstance(value, float) else str(value)


def _meaning(model: type, path: tuple[str, ...], kind: str | None) -> str:
    dotted = ".".join(path)
    words = _words()
    texts = [words.get(dotted), _attribute(model, path[-1]), _comment(path), words.get(f"*.{path[-1]}")]
    return " ".join(next((text for text in texts if text), "").split())


def _comment(path: tuple[str, ...]) -> str:
    """The comment on a key's line of conf/digits.yaml."""
    nodes: list[Any] = [_file()]
    for part in path[:-1]:
        nodes = [node[name] for node in nodes for name in (node if part.isupper() else [part]) if name in node]
        nodes = [node for node in nodes if isinstance(node, CommentedMap)]
    for node in nodes:
        tokens = node.ca.items.get(path[-1], [])
        text = next((token.value for token in tokens if token and not isinstance(token, list)), "")
        if text.strip() and not text.startswith("\n"):
            return text.strip().splitlines()[0].lstrip("# ").strip()
    return ""


@functools.cache
def _docstrings(model: type) -> Mapping[str, str]:
    """The docstrings below the fields of a class."""
    body = ast.parse(inspect.getsource(model)).body[0].body
    pairs = [(before.target, after) for before, after in pairwise(body) if isinstance(before, ast.AnnAssign)]
    texts = [(name.id, after.value) for name, after in pairs if isinstance(after, ast.Expr)]
    return {name: text.value for name, text in texts if isinstance(text, ast.Constant)}


def _attribute(model: type, name: str) -> str:
    """A field's own docstring, from the class or those it is made from."""
    own = [base for base in model.__mro__ if base.__module__.startswith(("pipeline", "extensions"))]
    return next(filter(None, (_docstrings(base).get(name) for base in own)), "")
