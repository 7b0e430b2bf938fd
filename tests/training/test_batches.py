"""Randomness as a function of position: nothing depends on who makes it, and the laws are the paper's."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from pipeline.data.order import batch_indices
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.losses import Loss
from pipeline.ncsn.losses.edm import EDM
from pipeline.ncsn.losses.log_uniform import LogUniform
from pipeline.training.batches import MicroBatch, generator, micro_batches
from pipeline.training.task import Task
from tests.training.tiny import make_images, make_task

CPU = torch.device("cpu")


def equal(a: MicroBatch, b: MicroBatch) -> bool:
    return all(torch.equal(getattr(a, key), getattr(b, key)) for key in ("x", "sigma", "noise"))


@pytest.mark.parametrize("step", [0, 1, 7])
def test_a_micro_batch_is_the_same_whoever_makes_it(task: Task, images: np.ndarray, step: int) -> None:
    together = micro_batches(task, images, step, range(4), CPU)
    apart = [micro_batches(task, images, step, range(k, k + 1), CPU)[0] for k in (2, 0, 3, 1)]
    assert all(equal(together[k], draw) for k, draw in zip((2, 0, 3, 1), apart, strict=True))


def test_every_position_has_randomness_of_its_own() -> None:
    heads = {
        generator(seed, step, shard).standard_normal(4).tobytes()
        for seed in range(3)
        for step in (*range(5), 2**31)
        for shard in range(4)
    }
    assert len(heads) == 3 * 6 * 4


def test_without_flips_and_dequantisation_the_examples_are_the_batch_in_order(images: np.ndarray) -> None:
    task = make_task(flip=False, dequantise=False)
    x = torch.cat([draw.x for draw in micro_batches(task, images, 3, range(4), CPU)])
    expected = images[batch_indices(task.seed, 3, 16, len(images))].astype(np.float32) / 255
    assert torch.equal(x, torch.from_numpy(expected))


def test_dequantisation_spreads_a_value_over_its_bin() -> None:
    pixels = np.repeat(np.arange(256, dtype=np.uint8), 16).reshape(64, 1, 8, 8)
    task = make_task(flip=False, batch_size=64)
    x = torch.cat([draw.x for draw in micro_batches(task, pixels, 0, range(4), CPU)])
    value = torch.from_numpy(pixels[batch_indices(0, 0, 64, 64)].astype(np.float32))
    offset = x * 256 - value
    assert offset.min() >= 0
    assert offset.max() <= 1
    assert offset.mean() == pytest.approx(0.5, abs=4 / (12 * 4096) ** 0.5)
    assert x.max() <= 1


def test_half_of_the_images_are_mirrored_and_nothing_else_happens_to_them() -> None:
    images = make_images(2000)
    task = make_task(batch_size=2000, dequantise=False)
    x = torch.cat([draw.x for draw in micro_batches(task, images, 0, range(4), CPU)])
    plain = torch.from_numpy(images[batch_indices(0, 0, 2000, 2000)].astype(np.float32) / 255)
    same = (x == plain).flatten(1).all(1)
    mirrored = (x == plain.flip(-1)).flatten(1).all(1)
    assert bool((same ^ mirrored).all())
    assert mirrored.float().mean() == pytest.approx(0.5, abs=4 * 0.5 / 2000**0.5)


def test_levels_are_uniform_and_noise_is_standard_normal() -> None:
    task = make_task(batch_size=4000)
    draws = micro_batches(task, make_images(4000), 0, range(4), CPU)
    sigma, noise = torch.cat([d.sigma for d in draws]), torch.cat([d.noise for d in draws])
    for level in task.network["sigmas"]:
        assert (sigma == level).float().mean() == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 4000) ** 0.5)
    assert noise.mean() == pytest.approx(0, abs=4 / noise.numel() ** 0.5)
    assert noise.var() == pytest.approx(1, abs=4 * (2 / noise.numel()) ** 0.5)
    assert noise.dtype == sigma.dtype == torch.float32


@pytest.mark.parametrize(
    ("loss", "law"),
    [
        (LogUniform(), scipy.stats.uniform(math.log(0.02), math.log(50))),
        (EDM(-1.9, 1.2), scipy.stats.norm(-1.9, 1.2)),
    ],
)
def test_continuous_noise_has_the_law_that_the_loss_names(loss: Loss, law: Any) -> None:
    draws = micro_batches(make_task(batch_size=4000, loss=loss), make_images(4000), 0, range(4), CPU)
    sigma = torch.cat([d.sigma for d in draws])
    assert sigma.dtype == torch.float32
    assert scipy.stats.kstest(sigma.log().numpy(), law.cdf).pvalue > 1e-3
    assert scipy.stats.kstest(sigma.log().numpy() + 0.1, law.cdf).pvalue < 1e-3


def test_fewer_images_than_a_batch_are_refused_by_name(task: Task) -> None:
    with pytest.raises(UserError, match=r"train.batch_size \(16\) exceeds the 15 training images"):
        micro_batches(task, make_images(15), 0, range(4), CPU)
