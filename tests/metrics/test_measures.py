"""The table of measures: one entry is all that a measure takes, and no search hears of it."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import program
from pipeline.metrics import measures
from pipeline.metrics.evaluate_row import evaluate, headline
from pipeline.metrics.features.classifier import ClassifierSpace
from pipeline.metrics.inputs import Described, ImageInputs
from pipeline.metrics.measures import MEASURES, Measure
from pipeline.reporting import columns, tables
from pipeline.reporting.read_table import blocks, estimate
from pipeline.reporting.rows import Row, Table

SETTINGS = {"nearest_k": 5, "kid_subsets": 2, "kid_subset_size": 50, "splits": 5, "fid_points": 3, "seed": 0}
MINE = """
from pipeline.metrics.measures import Measure


def brightness(x):
    return {"brightness": float(x.images.images.mean()) / 255, "brightness_std": 0.25}


BRIGHTNESS = Measure("brightness", "Brightness", "near 1", "this test", brightness, spread="std")
"""


@pytest.fixture
def brightness(extensions: Path) -> Iterator[Measure]:
    """A measure of the user's own, in extensions/measures."""
    (extensions / "measures").mkdir()
    (extensions / "measures/brightness.py").write_text(MINE)
    measures.measures.cache_clear()
    yield measures.measure("brightness")
    measures.measures.cache_clear()


def test_every_measure_has_its_words_and_its_source() -> None:
    assert len({one.name for one in MEASURES}) == len({one.label for one in MEASURES}) == len(MEASURES)
    assert all(one.source and one.better and callable(one.compute) for one in MEASURES)
    assert [one.name for one in measures.measures()] == [one.name for one in MEASURES], "no extension here"


def test_a_value_is_read_from_a_flat_entry_and_from_a_nested_one() -> None:
    block = {"kid": 1.0, "kid_std": 0.5, "memorisation_pixels": {"ratio": 0.9, "low": 0.8, "high": 1.0}}
    kid, near = measures.measure("kid"), measures.measure("memorisation_pixels")
    assert (kid.read(block), kid.read(block, "std"), kid.read(block, "low")) == (1.0, 0.5, None)
    assert (near.read(block), near.read(block, "low"), near.read(block, "not_measured")) == (0.9, 0.8, None)
    assert measures.measure("bits_per_dim").read(block) is None


def test_a_measure_of_an_extension_goes_through_to_a_row(
    brightness: Measure, digits: Any, classifier: ClassifierSpace
) -> None:
    reference = Described.by(classifier, digits.train)
    found = evaluate(ImageInputs(Described.by(classifier, digits.held_out), reference, SimpleNamespace(**SETTINGS)))
    expected = digits.held_out.mean() / 255
    assert found["brightness"] == pytest.approx(expected)
    evaluation = {"raw": found, "denoised": found, "nfe": {"raw": 1, "denoised": 2}}
    assert headline(evaluation).items() >= {"brightness": found["brightness"], "nfe": 2}.items()
    cells = [blocks(evaluation, "raw", Path("evaluation.json"))]
    row = Row("mine", False, "c", measures=tuple(estimate(one, cells) for one in measures.measures()), n=720)
    table = Table("digits", "", (), (row,))
    assert f"{expected:.2f} ± 0.25" in tables.results_table(table) and "| Brightness |" in tables.results_table(table)
    assert "brightness_std" in tables.to_csv(table) and "| Brightness | near 1 |" in tables.measures_table()
    assert Table.from_json(tables.to_json(table)) == table


def test_an_evaluation_of_before_names_the_measure_that_it_lacks(brightness: Measure) -> None:
    assert brightness.needed() == ("brightness", "brightness_std")
    assert brightness in measures.results() and brightness not in measures.further()


@pytest.mark.parametrize(
    ("digits_", "value", "std", "printed"),
    [(None, 1.2345, 0.0123, "1.234 ± 0.012"), (1, 1.2345, 0.0123, "1.2 ± 0.0")],
)
def test_digits_are_those_of_the_spread_or_of_the_entry(
    digits_: int | None, value: float, std: float, printed: str
) -> None:
    one = Measure("x", "X", "lower", "s", dict, spread="std", digits=digits_)
    row = Row("r", True, "c", measures=(estimate(one, [[{"x": value, "x_std": std}]]),))
    assert columns.measure_column(one, [row]).cell(row) == printed


@pytest.mark.parametrize("stage", ["tune_noise", "tune_sampler", "train", "generate", "frontier"])
def test_another_measure_repeats_no_search_training_or_sampling(stage: str) -> None:
    reached = {Path(path) for path in program.program(f"stages.{stage}")}
    own = {path.name for path in reached if path.parts[:2] == ("pipeline", "metrics")}
    assert "measures.py" not in own and "evaluate_row.py" not in own
    assert "pipeline/metrics/measures.py" in program.program("stages.evaluate")
