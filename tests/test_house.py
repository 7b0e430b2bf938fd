"""Limits of the code base: each measure of `benchmarks.house` against its own."""

from pathlib import Path

import pytest

from benchmarks import house

ROOT = Path(__file__).resolve().parents[1]


def test_public_definitions_have_docstrings() -> None:
    share = house.documented_share(ROOT)
    assert share >= 0.95, f"{share:.1%} of public definitions have a docstring; without: {house.undocumented(ROOT)}"


def test_plain_mappings_are_few() -> None:
    assert house.loose_types(ROOT) <= 60, "pass a section or a dataclass instead of a mapping of anything"


def test_no_public_type_is_in_two_modules() -> None:
    assert house.repeated_types(ROOT) == {}


def test_no_public_function_name_is_in_more_than_three_modules() -> None:
    assert house.repeated_functions(ROOT).keys() <= {"main"}, "`main` is what every command has"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("class Row:\n    '''A row.'''\n", "repeated_types"),
        ("def load(): ...\n", "repeated_functions"),
    ],
)
def test_a_name_that_is_used_again_is_found(source: str, found: str, tmp_path: Path) -> None:
    (tmp_path / "pipeline").mkdir()
    for number in range(4):
        (tmp_path / f"pipeline/m{number}.py").write_text(source)
    assert getattr(house, found)(tmp_path)
    assert house.documented_share(tmp_path) == (1 if "class" in source else 0)
