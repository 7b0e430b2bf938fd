"""The locks: requirements.lock is all that the pipeline runs with, requirements-dev.lock the rest, and only that."""

import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WITHOUT = re.findall(r"(?m)^# without: (.*)", (ROOT / "pyproject.toml").read_text())[0]
LEFT_OUT = {"torch", "triton", *WITHOUT.split()}


def locked(name: str) -> set[str]:
    return set(re.findall(r"(?m)^([^ =]+)==", (ROOT / name).read_text()))


def closure(asked: list[str]) -> set[str]:
    """Names of the packages that these requirements need on this machine, theirs included."""
    todo, seen = list(map(Requirement, asked)), set[tuple[str, str]]()
    while todo:
        one = todo.pop()
        for extra in {"", *one.extras} - {e for name, e in seen if name == canonicalize_name(one.name)}:
            seen.add((canonicalize_name(one.name), extra))
            needed = map(Requirement, metadata.requires(one.name) or ()) if _installed(one.name) else ()
            todo += [n for n in needed if n.marker is None or n.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


def _installed(name: str) -> bool:
    return any(metadata.distributions(name=name))


def test_a_package_is_in_one_lock() -> None:
    assert locked("requirements.lock") and not locked("requirements.lock") & locked("requirements-dev.lock")


def test_the_pipelines_lock_holds_all_that_it_needs() -> None:
    assert closure(PROJECT["dependencies"]) <= locked("requirements.lock") | LEFT_OUT


def test_both_locks_hold_what_tests_lint_and_docs_need() -> None:
    asked = [one for extra in PROJECT["optional-dependencies"].values() for one in extra]
    needed = closure(asked) - LEFT_OUT
    assert needed <= locked("requirements.lock") | locked("requirements-dev.lock")
    assert {"pytest", "mypy", "moto", "mkdocs", "botocore"} <= needed - locked("requirements.lock")
