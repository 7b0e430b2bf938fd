"""params.yaml as one frozen, strict object. No number has a default here: all are in the file."""

import difflib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.files import read_settings
from pipeline.ncsn.errors import UserError
from pipeline.params.kinds import flat
from pipeline.params.renamed import refusals
from pipeline.params.schema import Params
from pipeline.params.section import Section

__all__ = ["Params", "load", "parse"]

SHOWN = 100
"""Mistakes told at once."""


def parse(raw: Any, where: str) -> Params:
    """Validate the content of a params file.

    Raises:
        UserError: all old keys with their new names; without any, every mistake at once. A line each, `SHOWN` at most.
    """
    if old := refusals(raw):
        raise UserError(f"{where} has old keys: rename these and run again:\n  " + "\n  ".join(old))
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        lines = [_mistake(e) for e in flat(error.errors())]
        more = [f"  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        raise UserError(f"{where}: fix these and run again:\n" + "\n".join(lines[:SHOWN] + more)) from error


def _mistake(error: dict[str, Any]) -> str:
    """One line for one mistake: where, what, and the value there."""
    place = _without_tags(list(map(str, error["loc"])))
    what = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "missing":
        what = "is missing"
    elif error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(place[-1], error.get("known") or _keys(Section), 1)
        what = f"unknown key{f'; did you mean {near[0]}?' if near else ''}"
    elif error["type"] == "union_tag_not_found":
        what = "needs a `kind`, or `from`"
    elif error["type"] == "union_tag_invalid":
        context = error["ctx"]
        what = f"the kind {context['tag']!r} is not one of {context['expected_tags']}"
    elif isinstance(error["input"], str | int | float | None):
        what += f", found {error['input']!r}"
    return f"  {'.'.join(place)}: {what}" if place else f"  {what}"


UNIONS = {
    ("features",): 1,
    ("noise", "*"): 2,
    ("tune_noise", "starts", "*"): 3,
}
"""Where pydantic puts the kind, no key of the file, into the place of a mistake."""


def _without_tags(place: list[str]) -> list[str]:
    for pattern, at in UNIONS.items():
        if len(place) >= at and all(p in ("*", key) for p, key in zip(pattern, place, strict=False)):
            return place[:at] + place[at + 1 :]
    return place


def _keys(section: type[Section]) -> set[str]:
    """All keys that any section knows."""
    return set(section.model_fields).union(*map(_keys, section.__subclasses__()))


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and validate a params file (YAML 1.2, as DVC reads it: 1e-4 is a number).

    Raises:
        UserError: the file is missing, too large or no YAML; or what `parse` raises.
    """
    return parse(read_settings(path), str(path))
