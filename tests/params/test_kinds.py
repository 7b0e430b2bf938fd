"""Laws of kinds: found by their file, the package's first, and checked as strictly as any section."""

from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import ValidationError

from pipeline.ncsn import kinds
from pipeline.ncsn.errors import UserError
from pipeline.params.kinds import by_kind, flat, plain, read_kind
from pipeline.params.section import Section

MINE = '''
"""Mine."""
from dataclasses import dataclass
from typing import Literal
from pipeline.ncsn.errors import UserError

@dataclass(frozen=True)
class _Helper:
    pass

@dataclass(frozen=True)
class Mine:
    width: int
    rate: float | Literal["analytic"] = "analytic"
    sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.width < 2:
            raise UserError(f"width is {self.width}: it must be at least 2.")
'''


class Sections(Section):
    recipes: dict[str, Annotated[Any, by_kind("networks")]]


@pytest.fixture
def mine(extensions: Path) -> Path:
    """The room of networks outside the package, with the network `mine`."""
    folder = extensions / "networks"
    folder.mkdir()
    (folder / "mine.py").write_text(MINE)
    (folder / "_helper.py").write_text("")
    return folder


def mistakes(raw: Any) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as raised:
        Sections.model_validate({"recipes": {"a": raw}})
    return [(".".join(map(str, one["loc"])), one["msg"]) for one in flat(raised.value.errors())]


def test_a_file_beside_the_package_is_a_kind_and_helpers_are_none(mine: Path) -> None:
    assert kinds.kinds("networks")[-1] == "mine" and "_helper" not in kinds.kinds("networks")
    assert kinds.find("networks", "mine").__name__ == "Mine"
    (mine / "ncsnv2.py").write_text("raise AssertionError")
    assert kinds.module("networks", "ncsnv2").__name__ == "pipeline.ncsn.networks.ncsnv2"


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"did you mean unet\?.*ncsnv2.*extensions/networks/unett.py"):
        kinds.find("networks", "unett")


def test_a_file_that_defines_no_class_is_refused_by_name(mine: Path) -> None:
    (mine / "empty.py").write_text("")
    with pytest.raises(UserError, match=r"empty.py defines 0 public dataclasses"):
        kinds.find("networks", "empty")


def test_a_mapping_becomes_the_dataclass_and_goes_back(mine: Path) -> None:
    raw = {"kind": "mine", "width": 4, "sizes": [1, 2]}
    (one,) = Sections.model_validate({"recipes": {"a": raw}}).recipes.values()
    assert type(one) is kinds.find("networks", "mine") and one.sizes == (1, 2) and hash(one)
    assert plain(one) == raw and list(plain(one)) == ["kind", "width", "sizes"]
    assert read_kind("networks", plain(one)) == one == kinds.make("networks", plain(one))
    with pytest.raises(UserError, match=r"are not those of mine.*'rat'"):
        kinds.make("networks", raw | {"rat": 1})
    assert Sections.model_validate({"recipes": {"a": raw}}).kwargs() == {"recipes": {"a": raw}}


def test_every_mistake_has_its_key(mine: Path) -> None:
    assert mistakes({"kind": "mine", "width": "4", "rat": 1}) == [
        ("recipes.a.width", "Input should be a valid integer"),
        ("recipes.a.rat", "Extra inputs are not permitted"),
    ]
    assert mistakes({"kind": "mine", "width": 1}) == [("recipes.a.width", "width is 1: it must be at least 2.")]
    assert mistakes({"kind": "mine"}) == [("recipes.a.width", "Field required")]
    assert mistakes({"width": 1}) == [("recipes.a", "needs a `kind`")]
    assert mistakes(None) == [("recipes.a", "must be a mapping with the key `kind`")]
    ((place, said),) = mistakes({"kind": "other", "width": 1})
    assert place == "recipes.a.kind" and "mine" in said
    with pytest.raises(UserError, match=r"^width: Input should be a valid integer"):
        read_kind("networks", {"kind": "mine", "width": 1.5})
