"""Sample k is a function of (seed, k) and of nothing else."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from pipeline.ncsn.rng import SampleNoise

SHAPES = [(2,), (1, 8, 8), (3, 40, 40)]


def draws(seed: int, indices: list[int], shape: tuple[int, ...]) -> Tensor:
    """Mixed draws, more of them than are made at once: (B, 70, *shape)."""
    rng = SampleNoise(seed, indices, shape)
    first = [rng.uniform(), rng.normal(), rng.uniform()]
    return torch.stack([*first, *(rng.normal() for _ in range(67))], dim=1)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_sample_does_not_depend_on_its_batch_or_place(shape: tuple[int, ...]) -> None:
    together = draws(5, [0, 3, 7, 2**40], shape)
    reordered = draws(5, [2**40, 7, 0, 3], shape)
    assert torch.equal(together[[3, 2, 0, 1]], reordered)
    assert torch.equal(together[2], draws(5, [7], shape)[0])


@pytest.mark.parametrize("shape", SHAPES)
def test_samples_and_seeds_differ(shape: tuple[int, ...]) -> None:
    first = draws(5, [0, 1], shape)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, draws(6, [0, 1], shape))
    assert not torch.equal(draws(0, [1], shape), draws(1, [0], shape))


def test_successive_draws_differ_and_stay_as_they_were() -> None:
    rng = SampleNoise(0, [0, 1], (1, 8, 8))
    kept = [rng.normal() for _ in range(130)]
    copies = [x.clone() for x in kept]
    rng.normal()
    assert all(torch.equal(x, copy) for x, copy in zip(kept, copies, strict=True))
    assert len({x[0, 0, 0, 0].item() for x in kept}) == 130


def test_draws_have_their_laws() -> None:
    rng = SampleNoise(0, range(500), (1, 8, 8))
    uniform = rng.uniform()
    assert uniform.dtype == torch.float32 and uniform.shape == (500, 1, 8, 8)
    assert uniform.min() >= 0 and uniform.max() < 1
    assert scipy.stats.kstest(uniform.flatten().numpy(), "uniform").pvalue > 1e-3
    normal = rng.normal()
    assert normal.dtype == torch.float32 and normal.shape == (500, 1, 8, 8)
    assert scipy.stats.kstest(normal.flatten().numpy(), "norm").pvalue > 1e-3


def test_samples_are_independent_of_each_other() -> None:
    """Neighbouring indices: correlations of 2,000 draws as small as chance has them."""
    rng = SampleNoise(0, range(30), (2_000,))
    correlation = rng.normal().corrcoef() - torch.eye(30)
    assert correlation.abs().max() < 5 / 2_000**0.5


def plain_draws(seed: int, k: int, shape: tuple[int, ...], wanted: str) -> list[np.ndarray]:
    """The draws of a sample from its generator itself, normal ones ("n") by whole blocks of 4,096 numbers."""
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, k], dtype=np.uint64)))
    ahead, pending, found = max(1, 4096 // math.prod(shape)), [], []
    for kind in wanted:
        if kind == "u":
            found.append(generator.random(shape, dtype=np.float32))
            continue
        pending = pending or list(generator.standard_normal((ahead, *shape), dtype=np.float32))
        found.append(pending.pop(0))
    return found


@pytest.mark.parametrize("wanted", ["u" + "n" * 150, "n", "nnnunu" + "n" * 70 + "un", "n" * 64 + "u" + "n" * 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_draws_are_those_of_philox_by_whole_blocks_however_few_are_made_at_once(
    shape: tuple[int, ...], wanted: str
) -> None:
    rng = SampleNoise(5, [3, 2**40], shape)
    found = [rng.uniform() if kind == "u" else rng.normal() for kind in wanted]
    for row, k in enumerate((3, 2**40)):
        for mine, expected in zip(found, plain_draws(5, k, shape, wanted), strict=True):
            np.testing.assert_array_equal(mine[row].numpy(), expected)
