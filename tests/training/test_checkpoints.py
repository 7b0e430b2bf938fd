"""Checkpoints: what is resumed is what was, what is broken is seen, what is another's is left alone."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.ncsn.errors import UserError
from pipeline.training import checksums
from pipeline.training.checkpoints import (
    checkpoints,
    finished,
    load_network,
    load_state,
    newest_verified,
    prune,
    save,
)
from pipeline.training.loop import train
from pipeline.training.state import TrainingState, fresh
from pipeline.training.task import Task
from tests.training.tiny import EXACT, digest, make_images, make_task

ALL = (*EXACT, "manifest.json")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The checkpoints of a run that nothing happens to, at every step but 0."""
    folder = tmp_path_factory.mktemp("undisturbed")
    places = {}
    for event in train(make_task(), make_images()):
        places[event.step] = folder / f"step_{event.step:08d}"
        save(places[event.step], event.state)
    return places


def stopped_at(step: int, task: Task, images: np.ndarray) -> TrainingState:
    state = fresh(task)
    for event in train(task, images, state=state):
        if event.step == step:
            break
    return state


@pytest.mark.parametrize("stop", [1, 2, 5, 7, 8])
def test_a_resumed_run_ends_in_the_same_bits(
    stop: int, task: Task, images: np.ndarray, tmp_path: Path, undisturbed: dict[int, Path]
) -> None:
    save(tmp_path / f"step_{stop:08d}", stopped_at(stop, task, images))
    state = newest_verified(tmp_path, task)
    assert state is not None
    assert state.step == stop
    steps = [event.step for event in train(task, images, state=state)]
    assert steps == list(range(stop + 1, 9))
    save(tmp_path / "end", state)
    assert digest(tmp_path / "end") == digest(undisturbed[8])


def test_a_run_saved_before_its_first_step_ends_in_the_same_bits(
    task: Task, images: np.ndarray, tmp_path: Path, undisturbed: dict[int, Path]
) -> None:
    save(tmp_path / "step_00000000", fresh(task))
    state = newest_verified(tmp_path, task)
    assert state is not None
    list(train(task, images, state=state))
    save(tmp_path / "end", state)
    assert digest(tmp_path / "end") == digest(undisturbed[8])


def test_every_part_of_the_state_matters_to_the_comparison(undisturbed: dict[int, Path]) -> None:
    early, late = digest(undisturbed[7]), digest(undisturbed[8])
    assert all(early[name] != late[name] for name in EXACT)


def copy(source: Path, target: Path) -> Path:
    target.mkdir(parents=True)
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES = {
    "missing": Path.unlink,
    "truncated": truncate,
    "empty": lambda path: path.write_bytes(b""),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ALL)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    name: str,
    damage: str,
    task: Task,
    tmp_path: Path,
    undisturbed: dict[int, Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    copy(undisturbed[2], tmp_path / "step_00000002")
    broken = copy(undisturbed[4], tmp_path / "step_00000004")
    DAMAGES[damage](broken / name)
    with caplog.at_level(logging.WARNING):
        state = newest_verified(tmp_path, task)
    assert state is not None
    assert state.step == 2
    assert str(broken) in caplog.text
    with pytest.raises(UserError, match="damaged"):
        load_network(broken)


@given(name=st.sampled_from(ALL), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_flipped_bit_is_seen(undisturbed: dict[int, Path], name: str, place: float, bit: int) -> None:
    path = undisturbed[3] / name
    whole = path.read_bytes()
    altered = bytearray(whole)
    altered[int(place * len(whole))] ^= 1 << bit
    checksums.verify(path.parent)
    try:
        path.write_bytes(altered)
        with pytest.raises(UserError, match="damaged"):
            checksums.verify(path.parent)
    finally:
        path.write_bytes(whole)


def test_a_file_too_many_is_seen(tmp_path: Path, undisturbed: dict[int, Path]) -> None:
    folder = copy(undisturbed[1], tmp_path / "copy")
    (folder / "network.pt").write_bytes(b"")
    with pytest.raises(UserError, match=r"network\.pt"):
        checksums.verify(folder)


def test_with_no_good_checkpoint_the_run_is_refused_and_without_any_it_begins(task: Task, tmp_path: Path) -> None:
    assert newest_verified(tmp_path, task) is None
    assert newest_verified(tmp_path / "nowhere", task) is None
    (tmp_path / "step_00000004").mkdir()
    with pytest.raises(UserError, match=rf"none of the 1 checkpoints in {tmp_path} can be used.*delete"):
        newest_verified(tmp_path, task)


def test_another_tasks_checkpoint_is_never_taken(tmp_path: Path, undisturbed: dict[int, Path]) -> None:
    other = make_task(lr=2e-3)
    copy(undisturbed[8], tmp_path / "step_00000008")
    with pytest.raises(UserError, match="none of the 1 checkpoints"):
        newest_verified(tmp_path, other)
    assert finished(tmp_path, other) is None
    assert finished(tmp_path, make_task()) == tmp_path / "step_00000008"
    with pytest.raises(UserError, match="another task"):
        load_state(undisturbed[8], other)


def test_a_run_is_not_finished_by_a_damaged_checkpoint(
    task: Task, tmp_path: Path, undisturbed: dict[int, Path]
) -> None:
    folder = copy(undisturbed[8], tmp_path / "step_00000008")
    truncate(folder / "ema.safetensors")
    assert finished(tmp_path, task) is None


def test_load_network_gives_the_averaged_weights_frozen_with_their_ladder(
    task: Task, images: np.ndarray, tmp_path: Path
) -> None:
    state = stopped_at(5, task, images)
    save(tmp_path / "checkpoint", state)
    network = load_network(tmp_path / "checkpoint")
    averaged = state.ema.state_dict()
    assert all(torch.equal(value, averaged[name]) for name, value in network.state_dict().items())
    assert not all(torch.equal(value, averaged[name]) for name, value in state.network.state_dict().items())
    assert not network.training
    assert not any(value.requires_grad for value in network.parameters())
    assert network.sigmas.tolist() == pytest.approx(task.network["sigmas"])


def test_a_crash_while_writing_leaves_nothing_that_looks_like_a_checkpoint(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    save(tmp_path / "step_00000001", fresh(task))
    monkeypatch.setattr(checksums, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path / "step_00000002", fresh(task))
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]


def test_all_is_on_the_disk_before_the_checkpoint_gets_its_name(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync
    final = tmp_path / "step_00000001"

    def noted(descriptor: int) -> None:
        place = Path(f"/proc/self/fd/{descriptor}").readlink()
        assert final.exists() == (place == tmp_path)
        synced.append(place.name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    save(final, fresh(task))
    assert set(EXACT) <= set(synced)
    assert synced[-3:] == [next(n for n in synced if "manifest" in n), f".{final.name}.part", tmp_path.name]


def test_weights_that_are_nan_are_not_saved(task: Task, tmp_path: Path) -> None:
    state = fresh(task)
    with torch.no_grad():
        next(iter(state.network.parameters())).view(-1)[0] = torch.nan
    with pytest.raises(UserError, match="not finite after step 0"):
        save(tmp_path / "checkpoint", state)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["end_conv.bias", "sigmas"])
@pytest.mark.parametrize("whole", [True, False])
def test_an_average_or_a_buffer_that_is_nan_is_not_saved(name: str, whole: bool, task: Task, tmp_path: Path) -> None:
    """Samples are drawn from the average and its ladder, a snapshot's too, be the raw weights finite or not."""
    state = fresh(task)
    state.ema.state_dict()[name][0] = torch.inf
    with pytest.raises(UserError, match=rf"not finite after step 0 \({name}\)"):
        save(tmp_path / "checkpoint", state, whole=whole)
    assert not list(tmp_path.iterdir())


def test_prune_keeps_the_newest_and_sweeps_up_after_crashes(tmp_path: Path) -> None:
    for step in (100, 2, 30, 4, 50):
        (tmp_path / f"step_{step:08d}").mkdir()
    (tmp_path / ".step_00000110.part").mkdir()
    (tmp_path / "progress.jsonl").touch()
    prune(tmp_path, 100)
    assert [path.name for path in checkpoints(tmp_path)] == [
        "step_00000030",
        "step_00000050",
        "step_00000100",
    ]
    assert len(list(tmp_path.iterdir())) == 4


def test_the_first_weights_come_from_the_seed_and_leave_the_global_generator_alone(task: Task) -> None:
    torch.manual_seed(5)
    first = fresh(task).network.state_dict()
    torch.manual_seed(6)
    expected = torch.Generator().manual_seed(6)
    second = fresh(task).network.state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert torch.equal(torch.rand(3), torch.rand(3, generator=expected))
    other = fresh(make_task(seed=1)).network.state_dict()
    assert not all(torch.equal(value, other[name]) for name, value in first.items())
