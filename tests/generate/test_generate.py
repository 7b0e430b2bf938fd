"""Laws of generation: the bits of sample k follow from (seed, k); what it cost is counted."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.generate import inpaint
from pipeline.generate.draw import draw, evenly
from pipeline.generate.generate import generate
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.sampler import Sampler
from tests.generate.small import SAMPLER, SETTINGS, SHAPE, in_this_process, make, same


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return make()


def normal(x: Tensor, sigma: Tensor) -> Tensor:
    """The exact score of N(1/2, 1/100 I) at noise sigma."""
    return (0.5 - x) / (0.01 + sigma**2)


def test_sample_k_is_the_same_however_many_are_drawn_beside_it(network: torch.nn.Module) -> None:
    few = generate(network, SAMPLER, num_samples=11, **SETTINGS)
    many = generate(network, SAMPLER, num_samples=24, **SETTINGS)
    assert few.raw.shape == (11, *SHAPE) and few.raw.dtype == np.uint8
    assert np.array_equal(few.raw, many.raw[:11])
    assert np.array_equal(few.denoised, many.denoised[:11])
    other = generate(network, SAMPLER, num_samples=11, **{**SETTINGS, "seed": 8})
    assert not np.array_equal(few.raw, other.raw)
    assert len({sample.tobytes() for sample in many.raw}) == 24, "no two samples share their noise"


def test_no_more_samples_are_computed_than_are_asked_for() -> None:
    seen = set()

    def counting(x: Tensor, sigma: Tensor) -> Tensor:
        seen.add(len(x))
        return normal(x, sigma)

    few = generate(counting, SAMPLER, num_samples=5, **{**SETTINGS, "shard_size": 10**6})
    assert seen == {5} and len(few.raw) == 5
    assert same(few, generate(normal, SAMPLER, num_samples=5, **{**SETTINGS, "shard_size": 5}))


@pytest.mark.usefixtures("local_ray")
def test_one_process_threads_and_ray_workers_give_the_same_bits(network: torch.nn.Module) -> None:
    told: list[tuple[int, int]] = []
    with in_this_process():
        one = generate(
            network,
            SAMPLER,
            num_samples=20,
            **SETTINGS,
            progress=lambda done, total, _: told.append((done, total)),
        )
        assert told == [(8, 20), (16, 20), (20, 20)]
        assert same(one, generate(network, SAMPLER, num_samples=20, **SETTINGS, workers=3))
    assert same(one, generate(network, SAMPLER, num_samples=20, **SETTINGS))
    diverging = Sampler.langevin(Ladder(1.0, 0.1, 30), step_size=1e3, steps_per_level=9)
    with pytest.raises(UserError, match="step_size"):
        generate(normal, diverging, num_samples=8, **SETTINGS)


def test_evaluations_are_counted_and_samples_watched_on_their_way() -> None:
    calls = 0

    def counting(x: Tensor, sigma: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return normal(x, sigma)

    made = generate(counting, SAMPLER, num_samples=8, **SETTINGS)
    assert made.nfe == {"raw": 6, "denoised": 7} and calls == 7
    assert made.intermediate.shape == (3, 8, *SHAPE)
    assert np.array_equal(made.intermediate[-1], made.raw[:8]), "the last level ends in the raw samples"


def test_samples_follow_the_score_and_denoising_removes_noise() -> None:
    fine = Sampler.langevin(Ladder(1.0, 0.1, 20), step_size=2e-3, steps_per_level=10)
    made = draw(normal, fine, seed=1, indices=range(400), shape=SHAPE)
    spread = made.raw.std() / 255  # exact: sqrt(.01 + .1^2), the data at the last level
    assert made.raw.mean() / 255 == pytest.approx(0.5, abs=0.01)
    assert spread == pytest.approx(0.02**0.5, rel=0.1)
    # Tweedie shrinks N(1/2, .02) towards 1/2 by .01 / .02.
    assert made.denoised.std() / 255 == pytest.approx(spread / 2, rel=0.05)


def test_watched_levels_are_spread_from_the_first_to_the_last() -> None:
    assert evenly(3, 12) == [0, 1, 2]
    assert evenly(21, 5) == [0, 5, 10, 15, 20]
    assert len(evenly(232, 12)) == 12 and evenly(232, 12)[-1] == 231


def test_the_analytic_step_is_technique_4() -> None:
    ladder = Ladder(50, 0.01, 232)
    assert Sampler.analytic(ladder, 5).options["step_size"] == pytest.approx(6.18e-6, rel=0.01)
    assert Sampler.analytic(ladder, 5, ratio=0.5).options["step_size"] == pytest.approx(3.09e-6, rel=0.01)


@pytest.mark.usefixtures("local_ray")
def test_a_task_of_ray_completes_images_to_the_same_bits(
    network: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, *SHAPE), dtype=np.uint8)
    settings = {key: SETTINGS[key] for key in ("shard_size", "precision", "compile", "seed")}
    here = inpaint.complete(network, SAMPLER, images, use_gpu=False, **settings)
    monkeypatch.setattr(inpaint.connect, "is_remote", lambda: True)
    there = inpaint.complete(network, SAMPLER, images, use_gpu=False, **settings)
    assert np.array_equal(here, there)
