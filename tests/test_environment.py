"""Versions and hardware, told in a line."""

import platform
from pathlib import Path

import numpy as np
import pytest

from pipeline import environment, program

ROOT = Path(__file__).parents[1]
NO_NUMBER = {"jinja2", "markdown_it", "markupsafe", "psutil", "pydantic_core"}
"""Packages of the report, the process table and params.yaml, which decide no number."""


def test_versions_are_those_that_are_imported() -> None:
    told = environment.versions()
    assert f"python {platform.python_version()}" in told and f"numpy {np.__version__}" in told
    assert all(f"{name} " in told for name in environment.PACKAGES) and "not installed" not in told


def test_every_package_that_decides_a_result_is_named() -> None:
    paths = [path for room in ("pipeline", "stages", "extensions") for path in (ROOT / room).rglob("*.py")]
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    used = set(program.packages(*modules))
    assert "optuna" in used and used - NO_NUMBER <= set(environment.PACKAGES)


def test_gpus_are_counted_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU A'\necho 'GPU A'\necho 'GPU B'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    environment.hardware.cache_clear()
    assert environment.hardware().endswith(" cores, 2 x GPU A, 1 x GPU B")
    tool.write_text("#!/bin/sh\nexit 9\n")
    environment.hardware.cache_clear()
    assert environment.hardware().endswith(" cores")
    environment.hardware.cache_clear()
