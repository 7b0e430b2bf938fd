"""A task carried to its end in a folder, and what is told on the way."""

import errno
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.ncsn.errors import UserError
from pipeline.training import log as progress
from pipeline.training.checkpoints import checkpoints, newest_verified
from pipeline.training.fit import fit
from pipeline.training.log import Follower, Progress, curve, following, logging_progress, speed
from pipeline.training.task import Task
from tests.training.tiny import digest, make_task

ROOT = Path(__file__).parents[2]


def test_a_run_saves_on_the_way_and_at_its_end(task: Task, images: np.ndarray, tmp_path: Path) -> None:
    end = fit(task, images, tmp_path)
    assert [path.name for path in checkpoints(tmp_path)] == [
        "step_00000003",
        "step_00000006",
        "step_00000008",
    ]
    assert end == checkpoints(tmp_path)[-1]


def test_a_run_that_lost_its_newest_checkpoints_ends_in_the_same_bits(
    task: Task, images: np.ndarray, tmp_path: Path
) -> None:
    expected = digest(fit(task, images, tmp_path / "undisturbed"))
    end = fit(task, images, tmp_path / "disturbed")
    shutil.rmtree(end)
    (tmp_path / "disturbed/step_00000006/ema.safetensors").write_bytes(b"")
    assert digest(fit(task, images, tmp_path / "disturbed")) == expected
    assert newest_verified(tmp_path / "disturbed", task) is not None


def test_a_finished_run_does_nothing(task: Task, images: np.ndarray, tmp_path: Path) -> None:
    end = fit(task, images, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("step_*/*")}
    assert fit(task, images, tmp_path) == end
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("step_*/*")} == before


def test_divergence_names_the_step_and_the_last_good_checkpoint(images: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"at step 2.*no checkpoint before"):
        fit(make_task(lr=1e30), images, tmp_path)
    saved = make_task(lr=1e15, checkpoint_every=1)
    with pytest.raises(UserError, match=r"(loss is|not finite).*(last good checkpoint is .*/step_0000|no checkpoint)"):
        fit(saved, images, tmp_path / "saved")


LIMITED = """
import resource, signal, sys
from pathlib import Path
import torch
from pipeline.ncsn.errors import UserError
from pipeline.training.fit import fit
from tests.training.tiny import make_images, make_task

torch.set_num_threads(1)
folder, limit = Path(sys.argv[1]), int(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    fit(make_task(), make_images(), folder)
except UserError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize(("room", "written"), [(50, "a line of the log"), (5000, "a checkpoint")])
def test_a_full_disk_is_told_and_the_next_run_resumes(
    room: int, written: str, task: Task, images: np.ndarray, tmp_path: Path
) -> None:
    expected = digest(fit(task, images, tmp_path))
    for lost in checkpoints(tmp_path)[1:]:
        shutil.rmtree(lost)
    log = tmp_path / progress.FILE
    log.write_bytes(log.read_bytes().splitlines(keepends=True)[0])
    command = [sys.executable, "-c", LIMITED, str(tmp_path), str(log.stat().st_size + room)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert re.fullmatch(
        rf"cannot write {tmp_path}\S* \(File too large\): free space or set compute\.storage to "
        r"another folder, then run again: it resumes from the last checkpoint\.\n",
        ended.stderr,
    ), written
    assert [path.name for path in checkpoints(tmp_path)] == ["step_00000003"]
    assert not list(tmp_path.glob(".step*"))
    assert digest(fit(task, images, tmp_path)) == expected
    seen: list[int] = []
    Follower(tmp_path, lambda told: seen.append(told.step), 8).drain()
    assert seen == [2, 4, 6, 8], "a line that the full disk cut short swallows none that follows"


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_folder_that_turns_read_only_is_told_and_the_next_run_resumes(
    number: int, task: Task, images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = digest(fit(task, images, tmp_path / "undisturbed"))
    real, folder = Path.rename, tmp_path / "run"

    def rename(path: Path, target: Path) -> Path:
        if Path(target).name == "step_00000006":
            raise OSError(number, os.strerror(number), str(target))
        return real(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        told = rf"cannot write {folder}/step_00000006 \({os.strerror(number)}\): .*set compute\.storage"
        with pytest.raises(UserError, match=told):
            fit(task, images, folder)
    assert [path.name for path in checkpoints(folder)] == ["step_00000003"]
    assert not list(folder.glob(".step*"))
    assert digest(fit(task, images, folder)) == expected


def line(step: int, loss: float = 1.0) -> Progress:
    return Progress(step, 100, 16 * step, loss, 2.0, 80.0, workers=2)


def test_a_follower_hands_on_each_step_once_in_whole_lines(tmp_path: Path) -> None:
    seen: list[int] = []
    follower = Follower(tmp_path, lambda told: seen.append(told.step), 100)
    follower.drain()
    progress.append(tmp_path, line(10))
    follower.drain()
    with (tmp_path / progress.FILE).open("a") as file:
        file.write('{"step": 20, "ste')  # a worker killed in mid-write
    follower.drain()
    assert seen == [10]
    for step in (20, 30):  # resumed: repeats the torn line and resumes
        progress.append(tmp_path, line(step))
    follower.drain()
    assert seen == [10, 20, 30]


def test_whoever_watches_cannot_end_a_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []

    def failing(told: Progress) -> None:
        seen.append(told.step)
        raise RuntimeError("the server is gone")

    with following(tmp_path, failing, 100):
        progress.append(tmp_path, line(10))
        progress.append(tmp_path, line(20))
    assert seen == [10, 20]
    assert "the server is gone" in caplog.text


def test_the_log_holds_the_history(task: Task, images: np.ndarray, tmp_path: Path) -> None:
    seen: list[Progress] = []
    fit(task, images, tmp_path)
    Follower(tmp_path, seen.append, 8).drain()
    state = newest_verified(tmp_path, task)
    assert state is not None
    assert [(told.step, told.images, told.loss) for told in seen] == curve(state.losses, task)
    assert seen[-1].eta == 0
    seconds = sum(told.seconds for told in seen)
    assert speed(tmp_path, 8)["seconds"] == pytest.approx(seconds)
    assert speed(tmp_path, 8)["images_per_second"] == pytest.approx(128 / seconds)


def test_time_spent_twice_is_counted_twice(tmp_path: Path) -> None:
    for step in (10, 20, 10, 20):
        progress.append(tmp_path, line(step))
    assert speed(tmp_path, 100) == {"seconds": 8.0, "images_per_second": 80.0, "workers": 2}
    assert json.loads((tmp_path / progress.FILE).read_text().splitlines()[0])["step"] == 10


def test_progress_is_told_in_a_line_with_the_time_left(caplog: pytest.LogCaptureFixture) -> None:
    tell = logging_progress("train ncsn", every_s=60)
    with caplog.at_level(logging.INFO):
        for step in (10, 20, 100):
            tell(line(step))
    assert caplog.messages == [
        "train ncsn: step 10/100, loss 1.000, 80 images/s, 00:00:18 left",
        "train ncsn: step 100/100, loss 1.000, 80 images/s, 00:00:00 left",
    ]
