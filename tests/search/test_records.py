"""Records of trials in MLflow: metrics at every rung, and a picture of samples that no decision reads."""

import base64
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.search import Budget, Range, RungMetrics, SearchStore, search_here
from pipeline.search.records import FAILED, FINISHED, Settings, TrialRecord, png, track_trials, write_trials
from pipeline.search.sampler_trial import trial
from tests.search.searched import made


def pixels(png: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))


@pytest.mark.parametrize("channels", [1, 3])
def test_it_shows_the_first_samples_in_squares(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, channels, 8, 6), dtype=np.uint8)
    found = pixels(png(images))
    found = found[:, :, None] if channels == 1 else found
    assert found.shape == (2 * 8 * 5, 8 * 6 * 5, channels)
    for place in (0, 7, 8, 15):
        row, column = divmod(place, 8)
        tile = found[row * 40 : row * 40 + 40, column * 30 : column * 30 + 30]
        assert np.array_equal(tile[::5, ::5], images[place].transpose(1, 2, 0))
        assert np.array_equal(tile[4::5, 4::5], tile[::5, ::5])


@pytest.mark.parametrize(("count", "side", "shape"), [(1, 8, (32, 32)), (11, 64, (64, 512)), (40, 600, (1200, 600))])
def test_few_or_large_samples_make_a_smaller_one(count: int, side: int, shape: tuple[int, int]) -> None:
    assert pixels(png(np.zeros((count, 1, side, side), np.uint8))).shape == shape


def test_it_costs_a_trial_of_the_default_run_little() -> None:
    images = np.random.default_rng(0).integers(0, 256, (128, 1, 8, 8), dtype=np.uint8)
    png(images)
    start = time.process_time()
    for _ in range(20):
        png(images)
    assert (time.process_time() - start) / 20 < 0.02


class Told:
    """A tracked run that remembers the pictures of its children."""

    def __init__(self) -> None:
        self.pictures: dict[str, str] = {}

    def child(self, name: str, params: Any = None) -> "Child":
        return Child(self.pictures, name)


class Child:
    def __init__(self, pictures: dict[str, str], name: str) -> None:
        self.pictures, self.name = pictures, name

    def log_picture(self, name: str, png: str) -> None:
        self.pictures[f"{self.name}/{name}"] = png

    def log_metrics(self, values: Any, step: int = 0) -> None:
        assert set(values) == {"loss"}

    def set_tags(self, tags: Any) -> None: ...
    def end(self, status: str = "FINISHED") -> None: ...


def shade(settings: Settings) -> Iterator[dict[str, Any]]:
    """Samples whose shade says how far the trial went."""
    for rung in range(2):
        if rung and settings["x"] > 5:
            raise ArithmeticError("x is too large")
        yield RungMetrics({"loss": -settings["x"]}, np.full((1, 1, 8, 8), 10 * rung + 1, np.uint8))


def test_each_trials_run_has_the_last_one_also_when_the_search_is_resumed(tmp_path: Path) -> None:
    def searched(cut_at: int = 0) -> Told:
        run = Told()

        def on_trial(record: TrialRecord) -> None:
            if record.trial == cut_at:
                raise KeyboardInterrupt
            track_trials(run)(record)
            assert record.trial != 2 or record.status == FAILED

        search_here(
            shade, {"x": Range(0.1, 10.0)}, metric="loss", budget=Budget(5, (1, 2), 2, 1, seed=0),
            points=[{"x": 1.0}, {"x": 9.0}], on_trial=on_trial, store=SearchStore(tmp_path, "shade"),
        )  # fmt: skip
        return run

    with pytest.raises(KeyboardInterrupt):
        searched(cut_at=2)  # journaled, and not told
    pictures = searched().pictures
    assert list(pictures) == [f"trial {n}/samples" for n in range(1, 6)]
    assert pixels(pictures["trial 1/samples"]).max() == 11, "of the last rung"
    assert pixels(pictures["trial 2/samples"]).max() == 1, "of the last rung before it failed"
    assert searched().pictures == pictures, "of trials that ran before"


def test_a_sampler_trial_shows_its_first_samples_at_every_rung() -> None:
    setup = made()
    found = list(trial(setup.proposals().points()[0], setup))
    assert np.array_equal(found[0].samples, found[1].samples) and len(found[0].samples) == 16
    assert pixels(png(found[0].samples)).shape == (2 * 32, 8 * 32)
    assert all(isinstance(value, int | float) for one in found for value in one.values())


def test_the_tables_have_what_was_used_and_why_a_trial_failed(tmp_path: Path) -> None:
    good = TrialRecord(1, {"sigma": 2.0, "steps": 5}, ({"fid": 3.0}, {"fid": 2.5, "steps": 4}), FINISHED)
    lost = TrialRecord(2, {"sigma": 9.0, "steps": 5, "snr": 0.1}, (), FAILED, "no room")
    write_trials(tmp_path, [good, lost])
    assert (tmp_path / "trials.csv").read_text().splitlines() == [
        "trial,sigma,steps,snr,fid,status,reason",
        "1,2.0,4,,2.5,finished,",
        "2,9.0,5,0.1,,failed,no room",
    ]
    assert (tmp_path / "rungs.csv").read_text().splitlines() == [
        "trial,sigma,steps,snr,fid",
        "1,2.0,,,3.0",
        "1,2.0,4,,2.5",
    ]
