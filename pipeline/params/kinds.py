"""Kinds in params.yaml: a mapping {kind: KIND, ...} becomes the dataclass of that kind, strictly checked."""

import dataclasses
import functools
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    ValidationError,
    create_model,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.kinds import find, plain

__all__ = ["by_kind", "flat", "plain", "read_kind"]

_MISTAKES = "kind"
"""The type of the one error that carries those of a kind's own keys."""


@dataclasses.dataclass(frozen=True)
class ByKind:
    """Marks a field of a section whose value is one of a room's kinds: see `by_kind`."""

    room: str
    found: type[BaseModel] | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            functools.partial(_validated, self.room, found=self.found),
            serialization=core_schema.plain_serializer_function_ser_schema(_plain),
        )


def by_kind(room: str, found: type[BaseModel] | None = None) -> ByKind:
    """The type of a mapping {kind: KIND, ...}, for `Annotated[Loss, by_kind("losses")]`.

    Validated, it is an instance of the dataclass of this kind. Where the mapping has a key `from` instead, as
    entries do that take the result of a search, it is an instance of `found`.

    Strict and without unknown keys. A list becomes a tuple. What `__post_init__` refuses by a UserError is
    reported as the other mistakes are; see `flat` for where they stand.
    """
    return ByKind(room, found)


def read_kind(room: str, raw: Mapping[str, object]) -> Any:
    """The instance of a kind from a mapping, such as one that `plain` wrote.

    Raises:
        UserError: all that is wrong with it, a line each.
    """
    try:
        return _validated(room, raw)
    except PydanticCustomError as error:
        lines = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in (error.context or {})["errors"]]
        raise UserError("\n".join(line.removeprefix(": ") for line in lines)) from error


def flat(errors: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Errors of pydantic, with those of each kind's own keys in place of the one that carries them.

    Their `loc` are keys of the file, such as ("sampler", "edm", "rho"). An unknown key comes with `known`.
    """
    for error in errors:
        if error["type"] != _MISTAKES:
            yield dict(error)
            continue
        for one in error["ctx"]["errors"]:
            yield {**one, "loc": (*error["loc"], *one["loc"])}


def _plain(settings: Any) -> dict[str, object]:
    if isinstance(settings, BaseModel):
        return settings.model_dump(by_alias=True, exclude_unset=True)
    return plain(settings)


def _validated(room: str, raw: Any, *, found: type[BaseModel] | None = None) -> Any:
    if not isinstance(raw, dict):
        if (raw is not None and dataclasses.is_dataclass(raw)) or isinstance(raw, BaseModel):
            return raw
        raise _carrying([_mistake((), "must be a mapping with the key `kind`", raw)])
    try:
        if found and "from" in raw:
            return found.model_validate(raw)
        return _made(room, raw, found)
    except ValidationError as error:
        raise _carrying(list(error.errors())) from error


def _made(room: str, raw: Mapping[str, object], found: type[BaseModel] | None) -> Any:
    kind = raw.get("kind")
    if not isinstance(kind, str):
        raise _carrying([_mistake((), f"needs a `kind`{', or `from`' if found else ''}", raw)])
    try:
        cls: Any = find(room, kind)
    except UserError as error:
        raise _carrying([_mistake(("kind",), str(error), {})]) from error
    keys = {key: value for key, value in raw.items() if key != "kind"}
    try:
        return cls(**dict(_model(cls).model_validate(keys)))
    except ValidationError as error:
        known = [field.name for field in dataclasses.fields(cls)]
        raise _carrying([{**one, "known": known} for one in error.errors()]) from error
    except UserError as error:
        first = str(error).partition(" ")[0]
        raise _carrying([_mistake((first,) if first in keys else (), str(error), {})]) from error


@functools.cache
def _model(cls: Any) -> type[BaseModel]:
    """A strict model with the fields of a dataclass, a class."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {
        field.name: (
            Annotated[hints[field.name], BeforeValidator(_tuples)],
            ... if field.default is dataclasses.MISSING else field.default,
        )
        for field in dataclasses.fields(cls)
    }
    config = ConfigDict(strict=True, extra="forbid", protected_namespaces=())
    return create_model(cls.__name__, __config__=config, **fields)  # type: ignore[call-overload, no-any-return]


def _tuples(value: Any) -> Any:
    """Lists as tuples, so that settings can be hashed; numbers that nothing has as many of are refused."""
    if isinstance(value, int) and abs(value) >= 2**31:
        raise ValueError("must be below 2147483648")
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _mistake(loc: tuple[str, ...], message: str, given: Any) -> dict[str, Any]:
    return {"type": "value_error", "loc": loc, "msg": message, "input": given}


def _carrying(errors: list[Any]) -> PydanticCustomError:
    return PydanticCustomError(_MISTAKES, "not one of the kinds", {"errors": errors})
