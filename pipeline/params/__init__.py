"""params.yaml as one frozen, strict object. No number has a default here: all stand in the file."""

import difflib
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.ncsn.errors import UserError
from pipeline.params.schema import Params, searched
from pipeline.params.section import Section

__all__ = ["Params", "load", "parse", "searched"]


def parse(raw: Any, where: str) -> Params:
    """Validate the content of a params file.

    Raises:
        UserError: every mistake at once, a line each, with its key and value.
    """
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        lines = [_mistake(dict(e)) for e in error.errors()]
        raise UserError(f"{where}: mend these and run again:\n" + "\n".join(lines)) from error


def _mistake(error: dict[str, Any]) -> str:
    """One line for one mistake: where, what, and what stands there."""
    place = list(map(str, error["loc"]))
    if place[0:1] in (["noise"], ["sampler"]):
        del place[2:3]  # the rule, by which pydantic tells the kinds apart: no key of the file
    if place[0:1] == ["reference"]:
        del place[1:2]  # the kind, likewise
    what = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "missing":
        what = "is missing"
    elif error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(place[-1], _keys(Section), 1)
        what = f"unknown key{f'; did you mean {near[0]}?' if near else ''}"
    elif isinstance(error["input"], str | int | float | None):
        what += f", found {error['input']!r}"
    return f"  {'.'.join(place)}: {what}" if place else f"  {what}"


def _keys(section: type[Section]) -> set[str]:
    """All keys that any section knows."""
    return set(section.model_fields).union(*map(_keys, section.__subclasses__()))


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and validate a params file (YAML 1.2, as DVC reads it: 1e-4 is a number)."""
    try:
        raw = YAML(typ="safe").load(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: run from the repository's root or `git checkout` it.") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    return parse(raw, str(path))
