"""Networks kept on the way: the same bits and all of them, whatever happens to the run."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.ncsn.errors import UserError
from pipeline.training import checkpoints as state
from pipeline.training import checksums, fit, loop, snapshots
from pipeline.training.checkpoints import checkpoints, load_network
from pipeline.training.state import TrainingState
from pipeline.training.task import Task
from tests.training.tiny import digest, kept, make_images, make_task

STEPS = (2, 4, 6)


@pytest.fixture(scope="module")
def task() -> Task:
    """Snapshots between checkpoints, and at one of them, 6; some checkpoints are pruned."""
    return make_task(steps=8, snapshot_every=2, checkpoint_every=1, log_every=2)


@pytest.fixture(scope="module")
def undisturbed(task: Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    fit.fit(task, make_images(), folder)
    return folder


def test_every_due_step_leaves_its_averaged_weights_and_none_is_pruned(task: Task, undisturbed: Path) -> None:
    assert len(checkpoints(undisturbed)) == 3, "others were pruned"
    places = {step: undisturbed / f"snapshots/step_{step:08d}" for step in STEPS}
    assert sorted((undisturbed / "snapshots").iterdir()) == list(places.values())
    expected = {
        event.step: {name: value.clone() for name, value in event.state.ema.state_dict().items()}
        for event in loop.train(task, make_images())
    }
    for step, place in places.items():
        checksums.verify(place)
        held = load_network(place).state_dict()
        assert all(torch.equal(held[name], value) for name, value in expected[step].items())
        assert not all(torch.equal(held[name], value) for name, value in expected[step + 1].items())


def test_snapshots_change_no_bit_of_the_training(task: Task, undisturbed: Path, tmp_path: Path) -> None:
    plain = make_task(**{**vars(task), "snapshot_every": 0})
    end = fit.fit(plain, make_images(), tmp_path)
    assert digest(end) == digest(undisturbed / end.name)
    assert not (tmp_path / "snapshots").exists()
    assert plain.fingerprint() == task.fingerprint()
    assert fit.complete(tmp_path, plain) and fit.complete(undisturbed, task) and fit.complete(undisturbed, plain)
    assert fit.complete(tmp_path, task) is None, "a run without them is not finished for one that has them"


@pytest.mark.parametrize("half", ["before", "after"])
def test_cut_off_at_any_write_a_run_ends_with_all_of_them(
    half: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(snapshot_every=2, checkpoint_every=3, micro_batches=1, batch_size=4)
    images, left = make_images(8), [0]
    end = fit.fit(task, images, tmp_path / "undisturbed")
    real = state.save

    def cut(*arguments: Any, **named: Any) -> None:
        left[0] -= 1
        if left[0] != 0 or half == "after":
            real(*arguments, **named)
        if left[0] == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(fit, "save", cut)
    monkeypatch.setattr(snapshots, "save", cut)
    for write in range(1, len(STEPS) + 3 + 1):
        left[0], folder = write, tmp_path / str(write)
        with pytest.raises(KeyboardInterrupt):
            fit.fit(task, images, folder)
        assert digest(fit.fit(task, images, folder)) == digest(end)
        assert kept(folder) == kept(tmp_path / "undisturbed"), f"cut off {half} write {write}"


def test_a_course_that_was_rolled_back_leaves_no_snapshot(
    images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(rollbacks=1, snapshot_every=4, checkpoint_every=3)
    plain = loop._diverged

    def diverged(loss: float, at: TrainingState) -> bool:
        return (at.step == 4 and at.rollbacks == 0) or plain(loss, at)

    monkeypatch.setattr(loop, "_diverged", diverged)
    fit.fit(task, images, tmp_path / "rolled")
    slow = state.load_state(tmp_path / "rolled/step_00000003", task)
    slow.slow_down(1)
    for event in loop.train(task, images, state=slow):
        if event.step == 4:
            state.save(tmp_path / "expected/snapshots/step_00000004", event.state, whole=False)
    assert kept(tmp_path / "rolled") == kept(tmp_path / "expected")


def test_a_finished_run_s_networks_are_published_whole_or_not_at_all(
    task: Task, undisturbed: Path, tmp_path: Path
) -> None:
    def published(run_folder: Path, model: Path) -> Path:
        shutil.copytree(run_folder / "step_00000008", model)
        snapshots.copy(run_folder, model, task)
        return model

    model = published(undisturbed, tmp_path / "model")
    found = snapshots.candidates(model)
    assert found == {step: model / f"snapshots/step_{step:08d}" for step in STEPS} | {8: model}
    assert list(found) == [*STEPS, 8] and kept(model) == kept(undisturbed)
    last = load_network(model).state_dict()
    assert not all(torch.equal(v, last[n]) for n, v in load_network(found[6]).state_dict().items())

    broken = shutil.copytree(undisturbed, tmp_path / "broken")
    weights = broken / "snapshots/step_00000004/ema.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"step_00000004 is missing or damaged: .* delete this folder and"):
        published(broken, tmp_path / "damaged")
    shutil.rmtree(weights.parent)
    with pytest.raises(UserError, match="step_00000004 is missing or damaged"):
        published(broken, tmp_path / "missing")


def test_without_snapshots_the_last_network_is_the_only_one(images: np.ndarray, tmp_path: Path) -> None:
    end = fit.fit(make_task(), images, tmp_path)
    assert snapshots.candidates(end) == {8: end}
    assert list(snapshots.due(make_task(snapshot_every=8))) == [], "the last checkpoint is one itself"
    assert list(snapshots.due(make_task(snapshot_every=7))) == [7]
