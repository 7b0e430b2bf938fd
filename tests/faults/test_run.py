"""A run in one process, stopped in every way: it ends in the undisturbed one's bits."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.ncsn.errors import UserError
from pipeline.training import loop
from pipeline.training.checkpoints import checkpoints, newest_verified
from pipeline.training.fit import STOP, fit
from pipeline.training.lock import only
from pipeline.training.state import TrainingState
from tests.training.tiny import digest, make_images, make_task

ROOT = Path(__file__).parents[2]
CHILD = """
import sys
from pathlib import Path
import torch
from pipeline.training.fit import fit
from tests.training.tiny import make_images, make_task

torch.set_num_threads(1)
sys.stdout.write("ready")
sys.stdout.flush()
fit(make_task(steps=40, checkpoint_every=2), make_images(), Path(sys.argv[1]))
"""


def start(folder: Path) -> "subprocess.Popen[bytes]":
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], cwd=ROOT, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.read(5) == b"ready"
    return child


def test_a_run_asked_to_stop_saves_at_the_next_row_and_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    task = make_task()
    (tmp_path / "asked").mkdir()
    (tmp_path / "asked" / STOP).touch()
    assert fit(task, make_images(), tmp_path / "asked").name == "step_00000002"
    assert fit(task, make_images(), tmp_path / "asked").name == "step_00000004"
    (tmp_path / "asked" / STOP).unlink()
    end = fit(task, make_images(), tmp_path / "asked")
    assert digest(end) == digest(fit(task, make_images(), tmp_path / "undisturbed"))


def test_a_second_writer_is_refused_and_a_dead_ones_place_is_free(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("pipeline.training.fit.PATIENCE_S", 0.2)
    child = start(tmp_path)
    while not checkpoints(tmp_path):
        time.sleep(0.01)
    child.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(UserError, match=rf"process {child.pid} on \S+ is the writer of the training in"):
        fit(make_task(steps=40, checkpoint_every=2), make_images(), tmp_path)
    assert time.monotonic() - begun < 1
    child.kill()
    child.communicate()
    with only("writer", tmp_path):
        pass


def explode_at(monkeypatch: pytest.MonkeyPatch, step: int, rate: float) -> None:
    """Make the loss of one step NaN as long as the learning rate is not below `rate`."""
    judge = loop._diverged

    def judged(loss: float, state: TrainingState) -> bool:
        return judge(loss, state) or (state.step == step and state.optimizer.param_groups[0]["lr"] >= rate)

    monkeypatch.setattr(loop, "_diverged", judged)


def test_a_diverged_run_goes_back_at_half_the_rate_and_the_same_way_when_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    task = make_task(rollbacks=2)
    explode_at(monkeypatch, step=4, rate=task.optimizer.lr / 2)
    end = fit(task, make_images(), tmp_path / "once")
    state = newest_verified(tmp_path / "once", task)
    assert state is not None
    assert state.rollbacks == 2
    assert state.optimizer.param_groups[0]["lr"] == task.optimizer.lr / 4
    for _ in range(3):  # each ends at a row of the log, the second between two checkpoints
        (tmp_path / "asked").mkdir(exist_ok=True)
        (tmp_path / "asked" / STOP).touch()
        fit(task, make_images(), tmp_path / "asked")
    (tmp_path / "asked" / STOP).unlink()
    assert digest(fit(task, make_images(), tmp_path / "asked")) == digest(end)


def test_without_rollbacks_divergence_names_step_level_and_checkpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    task = make_task(rollbacks=1)
    explode_at(monkeypatch, step=4, rate=0)
    with pytest.raises(UserError, match=r"at step 5.*sigma (\S+) .*last good checkpoint is .*/step_00000003") as told:
        fit(task, make_images(), tmp_path)
    named = re.search(r"sigma (\S+) ", str(told.value))
    assert named is not None
    assert float(named[1]) in task.network["sigmas"]


def test_a_loss_that_grows_a_thousandfold_has_exploded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plain, calls = loop._losses, [0]

    def growing(*arguments: object) -> object:
        calls[0] += 1
        return plain(*arguments) * (1e4 if calls[0] > 12 else 1)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "_losses", growing)
    with pytest.raises(UserError, match=r"the loss is \d+\.\d+ at step 4"):
        fit(make_task(), make_images(), tmp_path)
