"""One run folder for any number of steps, any spacing of its log and its snapshots: always the same bits."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.training import fit as module
from pipeline.training import log, snapshots
from pipeline.training.checkpoints import checkpoints, read_losses
from pipeline.training.fit import complete, fit, resumes_at
from pipeline.training.loop import train
from pipeline.training.schedules.cosine import Cosine
from pipeline.training.schedules.warmup import Warmup
from pipeline.training.task import Task
from tests.training.tiny import digest, kept, make_images, make_task


def task_of(steps: int, **changes: object) -> Task:
    settings = {"batch_size": 8, "checkpoint_every": 3, "schedule": Warmup(6)} | changes
    return make_task(steps=steps, **settings)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of 10 steps with snapshots."""
    folder = tmp_path_factory.mktemp("whole")
    fit(task_of(10, snapshot_every=2), make_images(), folder)
    return folder


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that are computed while the test runs."""
    steps: list[int] = []

    def counted(*arguments: object, **named: object) -> object:
        for event in train(*arguments, **named):  # type: ignore[arg-type]
            steps.append(event.step)
            yield event

    monkeypatch.setattr(module, "train", counted)
    return steps


def test_more_steps_continue_from_the_finished_run_to_the_same_bits(
    whole: Path, trained: list[int], images: np.ndarray, tmp_path: Path
) -> None:
    fit(task_of(5), images, tmp_path)
    assert resumes_at(tmp_path, task_of(10)) == 5
    end = fit(task_of(10), images, tmp_path)
    assert trained == [*range(1, 6), *range(6, 11)]
    assert digest(end) == digest(whole / end.name)


def test_the_curve_of_a_continued_run_has_no_row_for_the_end_of_the_shorter_one(
    whole: Path, images: np.ndarray, tmp_path: Path
) -> None:
    longer = task_of(10, log_every=4)
    fit(task_of(5, log_every=2), images, tmp_path)
    losses = read_losses(fit(longer, images, tmp_path))
    assert losses == read_losses(whole / "step_00000010")
    rows = log.curve(losses, longer)
    assert [row.step for row in rows] == [4, 8, 10]
    assert [row.loss for row in rows] == [sum(losses[:4]) / 4, sum(losses[4:8]) / 4, sum(losses[8:]) / 2]


def test_snapshots_of_a_continued_run_are_those_of_an_uninterrupted_one(
    whole: Path, trained: list[int], images: np.ndarray, tmp_path: Path
) -> None:
    """At step 4 the shorter run ended and left none, for its checkpoint is one itself."""
    fit(task_of(4, snapshot_every=2), images, tmp_path)
    assert not (tmp_path / "snapshots/step_00000004").exists()
    fit(task_of(10, snapshot_every=2), images, tmp_path)
    assert kept(tmp_path) == kept(whole) and len(trained) == 10


def test_fewer_steps_take_the_checkpoint_of_their_end_if_it_is_there(
    whole: Path, trained: list[int], images: np.ndarray, tmp_path: Path
) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    nine = task_of(9)
    assert complete(folder, nine) == folder / "step_00000009"
    assert fit(nine, images, folder) == folder / "step_00000009"
    assert not trained


def test_fewer_steps_never_resume_from_a_later_checkpoint_and_keep_the_longer_run(
    whole: Path, trained: list[int], images: np.ndarray, tmp_path: Path
) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    eight = task_of(8)
    end = fit(eight, images, folder)
    assert trained == [7, 8]
    assert digest(end) == digest(fit(eight, images, tmp_path / "undisturbed"))
    assert digest(folder / "step_00000010") == digest(whole / "step_00000010")
    assert complete(folder, eight) and complete(folder, task_of(10))
    assert fit(task_of(1), images, folder) == folder / "step_00000001"
    assert trained[-1] == 1, "no checkpoint is early enough: from the start"


def test_a_schedule_that_depends_on_the_steps_begins_anew() -> None:
    short, long = (task_of(steps, schedule=Cosine(0, 0.0)) for steps in (5, 10))
    assert not long.extends and short.fingerprint() != long.fingerprint()


def test_another_spacing_of_the_log_trains_nothing(
    whole: Path, trained: list[int], images: np.ndarray, tmp_path: Path
) -> None:
    folder, other = shutil.copytree(whole, tmp_path / "run"), task_of(10, log_every=5, checkpoint_every=2)
    end = fit(other, images, folder)
    assert not trained and digest(end) == digest(whole / end.name)
    assert log.curve(read_losses(end), other) == log.curve(read_losses(fit(other, images, tmp_path / "new")), other)


def test_another_spacing_of_snapshots_repeats_only_what_has_none(
    whole: Path, trained: list[int], images: np.ndarray, tmp_path: Path
) -> None:
    folder, odd = shutil.copytree(whole, tmp_path / "run"), task_of(10, snapshot_every=7)
    assert complete(folder, odd) is None and snapshots.first_missing(folder, odd) == 7
    fit(odd, images, folder)
    assert trained[0] == 7, "from the checkpoint of step 6"
    (tmp_path / "model").mkdir()
    shutil.copytree(folder / "step_00000010", tmp_path / "model", dirs_exist_ok=True)
    snapshots.copy(folder, tmp_path / "model", odd)
    assert list(snapshots.candidates(tmp_path / "model")) == [7, 10]
    assert complete(folder, task_of(10, snapshot_every=2)), "those of the old spacing are still there"


def rows_of(run_folder: Path, steps: int) -> list[tuple[int, int]]:
    told: list[tuple[int, int]] = []
    log.Follower(run_folder, lambda row: told.append((row.step, row.steps)), steps).drain()
    return told


def test_a_log_hands_on_the_rows_up_to_the_task_s_last_step(images: np.ndarray, tmp_path: Path) -> None:
    fit(task_of(4), images, tmp_path)
    fit(task_of(8), images, tmp_path)
    assert rows_of(tmp_path, 8) == [(2, 8), (4, 8), (6, 8), (8, 8)]
    assert rows_of(tmp_path, 4) == [(2, 4), (4, 4)]
    assert log.speed(tmp_path, 4)["seconds"] < log.speed(tmp_path, 8)["seconds"]


def test_checkpoints_of_a_longer_run_are_not_pruned(images: np.ndarray, tmp_path: Path) -> None:
    fit(task_of(10, checkpoint_every=1), images, tmp_path)
    for folder in checkpoints(tmp_path)[:-1]:
        shutil.rmtree(folder)
    fit(task_of(5, checkpoint_every=1), images, tmp_path)
    assert [int(folder.name[5:]) for folder in checkpoints(tmp_path)] == [3, 4, 5, 10]
