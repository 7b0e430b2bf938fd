"""Section: the base class of every section of params.yaml, and the kinds of numbers in them."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Levels = Annotated[int, Field(ge=2)]


class Section(BaseModel):
    """A section of params.yaml: frozen, strictly typed, without unknown keys."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    def identity(self) -> dict[str, object]:
        """What results follow from: the values of all keys."""
        return dict(self)

    def kwargs(self) -> dict[str, Any]:
        """The section as the keyword arguments of the call it configures, under the keys of params.yaml."""
        return self.model_dump(exclude_unset=True, by_alias=True)
