"""A preset as text: its sections, each key with the reason behind it as a comment."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from pipeline.proposal.choose import Choice

WRITTEN = "Written by python -m pipeline.commands.start"
"""How the file begins, by which the command knows what it may overwrite."""
Nested: TypeAlias = "dict[str, Choice | Nested]"
"""Sections and their keys."""
_PLAIN = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_WORDS = ("true", "false", "null", "yes", "no", "on", "off")


def preset_text(name: str, choices: Sequence[Choice]) -> str:
    """The file conf/NAME.yaml."""
    nested: Nested = {}
    for choice in choices:
        *sections, last = choice.key.split(".")
        place = nested
        for section in sections:
            inner = place.setdefault(section, {})
            assert isinstance(inner, dict)
            place = inner
        place[last] = choice
    head = f"# {name}: own images. {WRITTEN}, which chose the keys below; edit them as you like.\n"
    return head + "\n".join(_lines(nested, "")) + "\n"


def _lines(nested: Nested, indent: str) -> Iterator[str]:
    for key, value in nested.items():
        if isinstance(value, Choice):
            yield f"{indent}{key}: {plain_yaml(value.value)}   # {value.reason}"
        else:
            yield f"{indent}{key}:"
            yield from _lines(value, f"{indent}  ")


def plain_yaml(value: Any) -> str:
    """A value in one line of YAML 1.2."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {plain_yaml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(plain_yaml, value)) + "]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value)
