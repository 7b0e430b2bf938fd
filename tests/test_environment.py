"""Versions and hardware, told in a line."""

import platform
from pathlib import Path

import numpy as np
import pytest

from pipeline import environment


def test_versions_are_those_that_are_imported() -> None:
    told = environment.versions()
    assert f"python {platform.python_version()}" in told and f"numpy {np.__version__}" in told
    assert all(f"{name} " in told for name in environment.PACKAGES) and "not installed" not in told


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
