"""Training on a real Ray Train: a worker killed on the way changes nothing, a mistake is not tried again."""

import logging
import os
import signal
from pathlib import Path

import pytest
import ray

from pipeline.cluster import train
from pipeline.cluster.train import fit, published, workers_on
from pipeline.ncsn.errors import UserError
from pipeline.training import fit as training
from pipeline.training.log import Progress
from pipeline.training.task import Task
from tests.training.tiny import digest, make_images, make_task

# Ray Train makes Ray Data's context, which warns of its own defaults.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")


def workers_of_this_process() -> list[int]:
    """Process ids of Ray Train's workers among the descendants of this process."""
    parents, workers = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if (folder / "cmdline").read_bytes().startswith(b"ray::RayTrainWorker"):
                workers.append(int(folder.name))
        except OSError:
            continue
    return [pid for pid in workers if descends(pid, parents)]


def descends(pid: int, parents: dict[int, int]) -> bool:
    while pid in parents and pid != os.getpid():
        pid = parents[pid]
    return pid == os.getpid()


def fit_two(task: Task, folder: Path, on_event: object = lambda told: None, max_failures: int = 2) -> Path:
    sizes = {"workers": 2, "cpus_per_worker": 1, "use_gpu": False, "max_failures": max_failures}
    return fit(task, make_images(), folder, on_event=on_event, **sizes)


@pytest.mark.usefixtures("local_ray")
def test_a_worker_killed_in_mid_training_changes_no_bit(tmp_path: Path) -> None:
    task = make_task(steps=60, checkpoint_every=10, log_every=3)
    killed: list[int] = []
    told: list[Progress] = []

    def kill_one(progress: Progress) -> None:
        told.append(progress)
        if progress.step >= 12 and not killed:
            killed.append(workers_of_this_process()[-1])
            os.kill(killed[0], signal.SIGKILL)

    end = fit_two(task, tmp_path / "killed", kill_one)
    assert killed
    repeated = len((tmp_path / "killed/progress.jsonl").read_text().splitlines()) - len(told)
    assert repeated > 0, "the killed run did not go back to a checkpoint"
    assert [progress.step for progress in told] == list(range(3, 61, 3))
    assert digest(end) == digest(training.fit(task, make_images(), tmp_path / "undisturbed"))
    assert not (tmp_path / "killed/.ray").exists()


@pytest.mark.usefixtures("local_ray")
def test_divergence_ends_a_run_without_another_try(tmp_path: Path) -> None:
    task = make_task(lr=1e30)
    with pytest.raises(UserError, match=r"the loss is .* at step 2.*There is no checkpoint before it"):
        fit_two(task, tmp_path)
    assert not (tmp_path / "progress.jsonl").exists()


def test_a_finished_task_starts_no_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    task, told = make_task(), []
    end = training.fit(task, make_images(), tmp_path)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("started Ray"))
    with caplog.at_level(logging.INFO):
        assert fit_two(task, tmp_path, told.append) == end
    assert [progress.step for progress in told] == [2, 4, 6, 8]
    assert "the training of 8 steps is finished: nothing to train" in caplog.messages


@pytest.mark.usefixtures("local_ray")
def test_a_longer_training_continues_from_the_finished_one_on_two_workers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Progress] = []
    training.fit(make_task(steps=4), make_images(), tmp_path / "run")
    published(tmp_path / "run", "a")
    with caplog.at_level(logging.INFO):
        end = fit_two(make_task(steps=7), tmp_path / "run", told.append)
    assert "continues the finished run of 4 steps to step 7" in caplog.messages
    assert [(row.step, row.steps, row.workers) for row in told] == [
        (2, 7, 1),
        (4, 7, 1),
        (6, 7, 2),
        (7, 7, 2),
    ]
    assert digest(end) == digest(training.fit(make_task(steps=7), make_images(), tmp_path / "undisturbed"))
    assert not (tmp_path / "run/published").exists(), "until it is copied, it is not to be deleted"


def test_an_interrupted_training_is_told_as_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    training.fit(make_task(steps=4), make_images(), tmp_path)
    with caplog.at_level(logging.INFO):
        train._announce(tmp_path, make_task())
        train._announce(tmp_path / "empty", make_task())
    assert caplog.messages == ["resumes from the checkpoint of step 4 of 8"]


def test_a_longer_training_that_cannot_use_the_shorter_one_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training.fit(make_task(steps=4), make_images(), tmp_path / "short")
    with caplog.at_level(logging.INFO):
        train._announce(tmp_path / "long", make_task(rollbacks=1))
        assert not caplog.messages, "there is no finished run yet"
        published(tmp_path / "short", "a")
        train._announce(tmp_path / "long", make_task())
        train._announce(tmp_path / "long", make_task(rollbacks=1))
    assert [message.partition(":")[0] for message in caplog.messages] == ["begins at step 0"]


def test_a_published_run_replaces_the_network_s_last_and_no_other(tmp_path: Path) -> None:
    old, new, other, copied, unfinished = (tmp_path / name for name in ("old", "new", "b", "copied", "part"))
    task = make_task()
    for folder in (old, new, other, copied):
        training.fit(task, make_images(), folder)
    training.fit(make_task(steps=3), make_images(), unfinished)
    published(old, "a")
    published(other, "b")
    published(copied, "a")
    assert not old.exists() and copied.exists() and other.exists()
    fit_two(task, copied)  # being read again, it is not to be deleted until it is copied
    published(new, "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "copied", "new", "part"]
    published(copied, "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "copied", "part"]


@pytest.mark.usefixtures("local_ray")
def test_a_folder_that_the_workers_do_not_share_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "write_text", lambda *_: None)  # the driver's file, on a disk of its own
    with pytest.raises(UserError, match=r"not the same folder on all nodes: set compute\.storage"):
        fit_two(make_task(), tmp_path)
    assert not list(tmp_path.glob("[!.]*"))


@pytest.mark.parametrize(
    ("gpus", "workers", "micro_batches", "train_on"),
    [(0, 4, 8, 4), (4, 4, 8, 4), (9, 4, 8, 4), (3, 4, 8, 2), (1, 4, 8, 1), (5, 10, 20, 5), (3, 5, 5, 1)],
)
def test_fewer_gpus_than_workers_train_on_what_divides_the_micro_batches(
    gpus: int, workers: int, micro_batches: int, train_on: int
) -> None:
    assert workers_on(gpus, workers, micro_batches) == train_on
