"""Kinds: the classes that `kind:` in params.yaml names, each found by the name of its file.

A room is a package with a file KIND.py for each kind. The file defines one public dataclass: its fields are
the keys next to `kind`, its methods are what is done with them. Helper modules of a room begin with an
underscore. A kind that the package lacks is looked for in `extensions/ROOM/KIND.py`, the user's own folder.
"""

import dataclasses
import difflib
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from .errors import UserError

KINDS_ROOMS = {
    "samplers": "pipeline.ncsn.samplers",
    "networks": "pipeline.ncsn.networks",
    "losses": "pipeline.ncsn.losses",
    "averages": "pipeline.ncsn.averages",
    "optimizers": "pipeline.training.optimizers",
    "schedules": "pipeline.training.schedules",
    "features": "pipeline.metrics.features",
    "measures": "pipeline.metrics.measures",
    "datasets": "pipeline.data.catalogue",
}
"""By room, its package. Where that is a module, such as a table, the files are those of the extensions."""
EXTENSIONS = "extensions"


def find(room: str, kind: str) -> type[Any]:
    """The class of a kind: the one public dataclass of its file.

    Raises:
        UserError: no such kind, or its file does not define one public dataclass.
    """
    home = module(room, kind)
    own: list[type[Any]] = [one for name, one in vars(home).items() if not name.startswith("_") and _defined(one, home)]
    if len(own) != 1:
        raise UserError(
            f"{home.__file__} defines {len(own)} public dataclasses, but a kind is one: begin the names of "
            "others with an underscore, or move them."
        )
    return own[0]


def module(room: str, kind: str) -> ModuleType:
    """The module of a kind, of the package or else of the extensions.

    Raises:
        UserError: no such kind; the known ones are listed.
    """
    for package in _packages(room):
        # A module that is imported already is taken as it is: listing a folder for each call would be slow.
        imported = None if str(kind).startswith("_") else sys.modules.get(f"{package}.{kind}")
        if imported or kind in _names(package):
            return imported or importlib.import_module(f"{package}.{kind}")
    near = difflib.get_close_matches(str(kind), kinds(room), 1)
    raise UserError(
        f"{kind!r} is none of the {room}{f'; did you mean {near[0]}?' if near else '.'} Known: "
        f"{', '.join(kinds(room))}; or add {EXTENSIONS}/{room}/{kind}.py."
    )


def kinds(room: str) -> tuple[str, ...]:
    """Names of a room's kinds: the package's in alphabetical order, then the extensions'. Imports none."""
    return tuple(dict.fromkeys(name for package in _packages(room) for name in _names(package)))


def extensions(room: str) -> dict[str, ModuleType]:
    """The user's own modules of a room by name, for rooms that are a table in the package."""
    package = f"{EXTENSIONS}.{room}"
    return {name: importlib.import_module(f"{package}.{name}") for name in _names(package)}


def kind_of(settings: Any) -> str:
    """The kind of an instance or class: the name of the file that defines it."""
    home: str = (settings if isinstance(settings, type) else type(settings)).__module__
    return home.rpartition(".")[2]


def make(room: str, plain: Mapping[str, Any]) -> Any:
    """The instance of a kind from a mapping {kind: KIND, ...} such as one that `plain` wrote.

    Types are not checked: `pipeline.params.kinds.read` does that.

    Raises:
        UserError: no such kind, a key that it does not have, one that is missing, or a value that it refuses.
    """
    cls = find(room, plain.get("kind", ""))
    keys = {name: _tuples(value) for name, value in plain.items() if name != "kind"}
    try:
        return cls(**keys)
    except TypeError as error:
        raise UserError(f"the settings {dict(plain)} are not those of {plain['kind']}: {error}.") from error


def plain(settings: Any) -> dict[str, Any]:
    """The settings of a kind as YAML and JSON hold them: `kind` first; defaults are left out."""
    given = {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if getattr(settings, field.name) != field.default
    }
    return {"kind": kind_of(settings)} | {name: _listed(value) for name, value in given.items()}


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _listed(value: Any) -> Any:
    return list(map(_listed, value)) if isinstance(value, tuple) else value


def _packages(room: str) -> tuple[str, str]:
    return KINDS_ROOMS[room], f"{EXTENSIONS}.{room}"


def _names(package: str) -> list[str]:
    """The public modules of a package; none where it is missing, or is no package."""
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        return []
    places = spec.submodule_search_locations if spec else None
    return sorted(one.name for one in pkgutil.iter_modules(places or []) if not one.name.startswith("_"))


def _defined(value: Any, home: ModuleType) -> bool:
    return isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__ == home.__name__
