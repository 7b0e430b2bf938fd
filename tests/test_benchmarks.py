"""The benchmark's arithmetic; what it measures is not tested."""

import importlib
from pathlib import Path

import pytest

from benchmarks.clock import stage_seconds

HOME = Path(__file__).parents[1] / "benchmarks"


def test_a_stage_lasts_until_the_next_one_begins() -> None:
    lines = [
        (0.5, "'data/images.npy.dvc' didn't change, skipping\n"),
        (1.0, "Running stage 'prepare':\n"),
        (1.1, "> python -m stages.prepare\n"),
        (4.0, "Running stage 'train@ncsn':\n"),
        (9.0, "Updating lock file 'dvc.lock'\n"),
    ]
    assert stage_seconds(lines, 10.5) == {"prepare": 3.0, "train@ncsn": 6.5}


def test_nothing_ran() -> None:
    assert stage_seconds([(0.3, "Data and pipelines are up to date.\n")], 0.4) == {}


@pytest.mark.parametrize("name", sorted(path.stem for path in HOME.glob("*.py")))
def test_every_benchmark_finds_what_it_imports(name: str) -> None:
    importlib.import_module(f"benchmarks.{name}")
