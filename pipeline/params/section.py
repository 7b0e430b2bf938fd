"""Section: the base class of every section of params.yaml, and the kinds of numbers in them."""

from collections import Counter
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pipeline.files import at_home
from pipeline.ncsn.errors import UserError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Samples = Annotated[Count, Field(ge=2)]
"""Enough for a covariance."""
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Levels = Annotated[int, Field(ge=2, le=100_000)]
Repeats = Annotated[int, Field(ge=0, le=1000)]
"""Further seeds behind what is compared, each as dear as what it repeats."""


def once(values: list[Any]) -> list[Any]:
    """The values, at least one, each of which must be there once.

    Raises:
        ValueError: one is there twice.
    """
    ((value, times),) = Counter(values).most_common(1)
    if times > 1:
        raise ValueError(f"{value!r} is there twice: remove one")
    return values


def ascending(values: list[Any]) -> list[Any]:
    """The values, each of which must be above the one before; raises ValueError."""
    if any(low >= high for low, high in pairwise(values)):
        raise ValueError(f"{values} must be strictly ascending")
    return values


def _at_home(path: str) -> str:
    try:
        return at_home(path)
    except UserError as error:
        raise ValueError(str(error)) from error


Place = Annotated[str, AfterValidator(_at_home)]
"""A path, or an address, of which ~ is the user's home."""


class Section(BaseModel):
    """A section of params.yaml: frozen, strictly typed, without unknown keys."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    def identity(self) -> dict[str, object]:
        """What results follow from: the values of all keys."""
        return dict(self)

    def kwargs(self) -> dict[str, Any]:
        """The section as the keyword arguments of the call it configures, under the keys of params.yaml."""
        return self.model_dump(exclude_unset=True, by_alias=True)
