"""The benchmark's arithmetic; what it measures is not tested."""

import importlib
from pathlib import Path

import pytest

from benchmarks.clock import stage_seconds
from benchmarks.search import Run, row

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


def test_a_repetition_counts_until_it_comes_near_and_within_its_budget() -> None:
    run = Run([10.0, 4.0, 10.0, 10.0], [1.0, 0.5, 1.0, 1.0], [9.0, None, 5.0, 4.0])
    assert (run.until(5.0), run.until(9.0), run.until(3.9), run.best) == (3, 1, None, 4.0)
    assert run.within(14.0).fids == [9.0, None], "spent exactly"
    assert run.within(15.0).fids == [9.0, None, 5.0], "the trial that oversteps is done"
    assert run.within(99.0) == run
    missed = Run([7.0], [2.0], [6.0])
    assert row("a", [run, run, missed], 5.0) == "| a | 34 | 4.00, 4.00, 6.00 | 2 of 3 | 28 | 4 |"
    assert row("b", [missed, missed], 5.0) == "| b | 7 | 6.00, 6.00 | 0 of 2 | > 14 | > 4 |"
