"""Laws of generation at scale: the same bits on any number of workers and after any death."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch

from pipeline.cluster import connect as cluster
from pipeline.cluster.connect import connect
from pipeline.generate import draw as shards
from pipeline.generate import generate as generating
from pipeline.generate.generate import Samples, generate
from pipeline.generate.score import Scorer, scorer
from pipeline.generate.shards import Disk, fingerprint
from pipeline.metrics.features.classifier import ClassifierSpace, FeatureNetwork
from pipeline.metrics.fid import SHARD, moments
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.sampler import Sampler
from tests.generate import small
from tests.generate.small import SAMPLER, SHAPE, in_this_process, make, same

Scored = list[np.ndarray]
ROOT = Path(__file__).parents[2]
SETTINGS: dict[str, Any] = {**small.SETTINGS, "num_samples": 45}


def killed(storage: Path, after: int) -> None:
    """Generate into `storage` and die by SIGKILL once so many samples are told done: a child's whole life."""

    def progress(done: int, total: int, seconds: float) -> None:
        if done >= after:
            os.kill(os.getpid(), signal.SIGKILL)

    generate(make(), SAMPLER, **SETTINGS, storage=storage, progress=progress)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return make()


@pytest.fixture(scope="module")
def expected(network: torch.nn.Module) -> Samples:
    """What an uninterrupted run in memory makes."""
    with in_this_process():
        return generate(network, SAMPLER, **SETTINGS)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first sample of every shard that is computed in this process."""
    firsts: list[int] = []
    real = shards.draw

    def watched(*arguments: Any, **keywords: Any) -> shards.Shard:
        firsts.append(keywords["indices"][0])
        return real(*arguments, **keywords)

    monkeypatch.setattr(generating, "draw", watched)
    return firsts


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records]


def flip(path: Path) -> None:
    """Change one bit of a file's last byte."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_on_disk_in_memory_and_after_sigkill_the_bits_are_the_same(
    network: torch.nn.Module, expected: Samples, drawn: list[int], tmp_path: Path
) -> None:
    code = "import sys, pathlib, tests.generate.test_scale as t; t.killed(pathlib.Path(sys.argv[1]), 24)"
    died = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT)
    assert died.returncode == -signal.SIGKILL
    (folder,) = tmp_path.iterdir()
    before = {path: path.stat().st_ino for path in folder.glob("shard_*")}
    assert 3 <= len(before) < 6
    made = generate(network, SAMPLER, **SETTINGS, storage=tmp_path)
    assert same(made, expected)
    assert {path: path.stat().st_ino for path in before} == before, "what was done is not done again"
    assert len(drawn) == 6 - len(before)
    assert made.folder == folder and isinstance(made.raw, np.memmap)
    made.discard()
    assert not list(tmp_path.iterdir())


def test_a_damaged_shard_is_made_anew_with_a_warning(
    network: torch.nn.Module,
    expected: Samples,
    drawn: list[int],
    warnings: Callable[[], list[str]],
    tmp_path: Path,
) -> None:
    folder = generate(network, SAMPLER, **SETTINGS, storage=tmp_path).folder
    assert folder
    flip(folder / "shard_00000001/raw.npy")
    flip(folder / "shard_00000003/manifest.json")
    (folder / "shard_00000004/denoised.npy").unlink()
    drawn.clear()
    assert same(generate(network, SAMPLER, **SETTINGS, storage=tmp_path), expected)
    assert sorted(drawn) == [8, 24, 32]
    named = [line.split("/")[-1].split(" ")[0] for line in warnings()]
    assert named == [f"shard_0000000{n}" for n in (1, 3, 4)]


def test_more_samples_begin_with_the_shards_of_fewer(
    network: torch.nn.Module, drawn: list[int], tmp_path: Path
) -> None:
    few = generate(network, SAMPLER, **{**SETTINGS, "num_samples": 20}, storage=tmp_path).raw.copy()
    many = generate(network, SAMPLER, **SETTINGS, storage=tmp_path)
    assert sorted(drawn) == [0, 8, 16, 24, 32, 40] and np.array_equal(many.raw[:20], few)


def test_samples_in_progress_are_one_process_s_alone(network: torch.nn.Module, tmp_path: Path) -> None:
    made = generate(network, SAMPLER, **SETTINGS, storage=tmp_path)
    with pytest.raises(UserError, match="is the sampler of the samples in"):
        generate(network, SAMPLER, **SETTINGS, storage=tmp_path)
    made.discard()
    generate(network, SAMPLER, **SETTINGS, storage=tmp_path).discard()


def test_samples_that_failed_are_left_to_the_next(network: torch.nn.Module, tmp_path: Path) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        generate(network, SAMPLER, **SETTINGS, storage=tmp_path, progress=stop)
    generate(network, SAMPLER, **SETTINGS, storage=tmp_path).discard()
    assert caught.value.__traceback__, "the frames that held the folder are still there"


def test_whatever_changes_the_bits_changes_the_folder(network: torch.nn.Module, tmp_path: Path) -> None:
    other = make()
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1e-7
    finer = Sampler.langevin(Ladder(1.0, 0.1, 3), step_size=1.1e-3, steps_per_level=2)
    for score, sampler, changed in (
        (network, SAMPLER, {}),
        (network, SAMPLER, {"num_samples": 9}),
        (other, SAMPLER, {}),
        (network, finer, {}),
        (network, SAMPLER, {"seed": 8}),
        (network, SAMPLER, {"shard_size": 4}),
        (network, SAMPLER, {"precision": "bfloat16"}),
    ):
        generate(score, sampler, **{**SETTINGS, "num_samples": 8, **changed}, storage=tmp_path)
    assert len(list(tmp_path.iterdir())) == 6, "the number of samples alone does not"
    with pytest.raises(TypeError, match="network"):
        generate(lambda x, sigma: -x, SAMPLER, **SETTINGS, storage=tmp_path)


def test_the_fingerprint_sees_structure_and_the_order_of_equal_weights() -> None:
    one, two = torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False)
    one.weight.data, two.weight.data = torch.eye(2), torch.eye(2).flip(0)
    assert fingerprint(one, {}) != fingerprint(two, {})
    wide, dilated = (torch.nn.Conv2d(1, 1, 3, dilation=by) for by in (1, 2))
    dilated.load_state_dict(wide.state_dict())
    assert fingerprint(wide, {}) != fingerprint(dilated, {})


def test_the_clock_goes_on_where_a_killed_run_left_it(tmp_path: Path) -> None:
    part = np.zeros((2, *SHAPE), np.uint8)
    first = Disk(tmp_path)
    first._begin -= 100  # it has run for so long
    first.put(0, shards.Shard(part, part, part[None], {"raw": 1, "denoised": 2}))
    with pytest.raises(UserError, match=r"process \d+ on \S+ is the sampler of the samples in .*: wait for its end"):
        Disk(tmp_path)
    first.lock.close()
    second = Disk(tmp_path)
    assert second.seconds < 50 and second.found(range(3)) == {0} and second.seconds >= 100


def classifier() -> ClassifierSpace:
    """A feature network with random weights."""
    shape = {"channels": 1, "image_size": 8, "num_classes": 10, "width": 4}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ClassifierSpace(FeatureNetwork(**shape).eval().requires_grad_(False), shape)


EVALUATOR = classifier()
IMAGES = np.random.default_rng(0).integers(0, 256, (2 * SHARD + 700, *SHAPE), dtype=np.uint8)


def score_all(scorer: Scorer) -> Scored:
    whole = scorer.moments(IMAGES)
    return [scorer.features(IMAGES), whole.mean.numpy(), whole.root.numpy()]


@pytest.fixture(scope="module")
def scored() -> Scored:
    """Without Ray, of all images at once."""
    features = EVALUATOR.features(IMAGES)
    whole = moments(features)
    return [features, whole.mean.numpy(), whole.root.numpy()]


def test_by_shards_in_this_process_it_is_what_the_evaluator_says_of_all(scored: Scored, tmp_path: Path) -> None:
    seen: list[int] = []

    class Watched(ClassifierSpace):
        def features(self, images: np.ndarray) -> np.ndarray:
            seen.append(len(images))
            return super().features(images)

    scorer = Scorer(Watched(EVALUATOR.network, EVALUATOR.shape), tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(score_all(scorer), scored, strict=True))
    for found, whole in zip(scorer.both(IMAGES), EVALUATOR.both(IMAGES), strict=True):
        assert np.array_equal(found, whole)
    assert seen == [*3 * [SHARD, SHARD, 700], 1], "never more than a shard at once"
    scorer.discard()
    assert not list(tmp_path.iterdir()), "its files go with the arrays"


def test_a_killed_scoring_goes_on_with_the_shards_that_are_done_and_verify(
    scored: Scored, tmp_path: Path, warnings: Callable[[], list[str]]
) -> None:
    seen: list[int] = []

    class Dying(ClassifierSpace):
        def features(self, images: np.ndarray) -> np.ndarray:
            seen.append(len(images))
            if len(seen) == 3:
                raise KeyboardInterrupt
            return super().features(images)

    evaluator = Dying(EVALUATOR.network, EVALUATOR.shape)
    with (
        pytest.raises(KeyboardInterrupt),
        scorer(evaluator, tmp_path, workers=1, cpus_per_worker=1, use_gpu=False) as first,
    ):
        first.features(IMAGES)
    (done,) = tmp_path.iterdir()
    assert sorted(path.name for path in done.glob("shard_*")) == ["shard_00000000", f"shard_{SHARD:08d}"]
    damaged = done / f"shard_{SHARD:08d}/part.npy"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    with scorer(evaluator, tmp_path, workers=1, cpus_per_worker=1, use_gpu=False) as second:
        assert np.array_equal(second.features(IMAGES), scored[0])
        assert seen == [SHARD, SHARD, 700, SHARD, 700] and "damaged" in " ".join(warnings())
        assert np.array_equal(second.features(IMAGES[:SHARD]), scored[0][:SHARD])
        other = IMAGES.copy()
        other[0] += 1
        assert not np.array_equal(second.features(other), scored[0]), "other images have shards of their own"
    assert not list(tmp_path.iterdir())


def test_scores_in_progress_are_one_process_s_alone(tmp_path: Path) -> None:
    first, second = Scorer(EVALUATOR, tmp_path), Scorer(EVALUATOR, tmp_path)
    expected = first.features(IMAGES)
    with pytest.raises(UserError, match="is the evaluator of the scores in"):
        second.features(IMAGES)
    first.release()
    assert np.array_equal(second.features(IMAGES), expected)
    second.discard()
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def four_cpus() -> Iterator[None]:
    """A Ray of four CPUs on this machine, however many it has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setattr(cluster.os, "sched_getaffinity", lambda pid: range(4))
        with connect(workers=4, cpus_per_worker=1, use_gpu=False):
            yield


@pytest.mark.usefixtures("four_cpus")
@pytest.mark.parametrize("workers", [4, 2, 1])
def test_one_two_and_four_ray_workers_give_the_same_bits(
    workers: int, network: torch.nn.Module, expected: Samples, scored: Scored, tmp_path: Path
) -> None:
    with only(workers):
        made = generate(network, SAMPLER, **SETTINGS, storage=tmp_path)
        found = score_all(Scorer(EVALUATOR, tmp_path))
    assert same(made, expected)
    assert all(np.array_equal(a, b) for a, b in zip(found, scored, strict=True))


@pytest.mark.usefixtures("four_cpus")
def test_a_mistake_on_a_worker_is_told_as_here(tmp_path: Path) -> None:
    for images in (np.zeros((3, 1, 9, 9), np.uint8), np.zeros((0, *SHAPE), np.uint8)):
        with pytest.raises(UserError, match="do not fit the classifier of the feature space"):
            Scorer(EVALUATOR, tmp_path).features(images)


@contextlib.contextmanager
def only(workers: int) -> Iterator[None]:
    """Leave so many of the four CPUs to others."""
    hold = ray.remote(num_cpus=4 - workers)(Held).remote() if workers < 4 else None
    if hold:
        ray.get(hold.ready.remote())
    yield
    if hold:
        ray.kill(hold)


class Held:
    """An actor that takes CPUs and does nothing with them."""

    def ready(self) -> bool:
        return True
