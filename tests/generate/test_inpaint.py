"""Laws of the completed images: the known half is kept, the rest follows from (seed, k) and the data."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.generate import inpaint
from pipeline.generate.inpaint import COMPLETIONS, FIRST, IMAGES, complete, known_columns
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.noise import overlap, variance_ratio
from pipeline.ncsn.rng import SampleNoise
from pipeline.ncsn.sampler import Sampler

LADDER = Ladder(1.0, 0.01, 12)
SAMPLER = Sampler.langevin(LADDER, step_size=2e-5, steps_per_level=30)
SETTINGS: dict[str, Any] = {"shard_size": 24, "precision": "float32", "compile": False, "seed": 7}
ORIGINALS = np.random.default_rng(0).integers(0, 256, (6, 1, 4, 6), dtype=np.uint8)


def mirrored(x: Tensor, sigma: Tensor) -> Tensor:
    """The exact score of images of a left half N(1/2, 1/4), mirrored in the right plus N(0, 1/400)."""
    half, s = x.shape[-1] // 2, sigma.view(-1, 1, 1, 1) ** 2 if sigma.ndim else sigma**2
    left, right = x[..., :half] - 0.5, x[..., half:].flip(-1) - 0.5
    a, b, c = 0.25 + s, 0.25, 0.25 + 1 / 400 + s
    det = a * c - b * b
    return torch.cat([(b * right - c * left) / det, ((b * left - a * right) / det).flip(-1)], dim=-1)


def run(score: Any = mirrored, sampler: Sampler = SAMPLER, images: Any = ORIGINALS, **changes: Any) -> Any:
    return complete(score, sampler, images, use_gpu=False, **{**SETTINGS, **changes})


def test_the_original_comes_first_and_its_left_half_is_kept() -> None:
    made = run()
    assert made.shape == (IMAGES, 1 + COMPLETIONS, 1, 4, 6) and made.dtype == np.uint8
    assert np.array_equal(made[:, 0], ORIGINALS[:IMAGES])
    left = known_columns(6)
    off = made[:, 1:, ..., :left].astype(float) - made[:, :1, ..., :left]
    assert left == 3 and np.abs(off).max() <= 5 * 255 * LADDER.sigma_min + 1


def test_the_right_half_is_drawn_given_the_left() -> None:
    """It mirrors the left, with the data's own spread about the conditional mean; no two are the same."""
    made = run().astype(float) / 255
    mean = made[:, :1, ..., 2::-1]
    off = made[:, 1:, ..., 3:] - mean
    inside = (mean > 0.2) & (mean < 0.8)  # beyond, bytes clamp
    spread = off[np.broadcast_to(inside, off.shape)]
    assert abs(spread.mean()) < 0.02 and 0.035 < spread.std() < 0.065
    assert len({image.tobytes() for image in made[:, 1:].reshape(-1, 24)}) == IMAGES * COMPLETIONS


def test_completion_k_is_a_function_of_seed_and_k_and_of_its_image() -> None:
    whole = run()
    assert np.array_equal(run(), whole)
    assert np.array_equal(run(shard_size=5), whole), "an exact score rounds alike in any batch"
    assert np.array_equal(run(images=ORIGINALS[:2]), whole[:2])
    assert not np.array_equal(run(seed=8)[:, 1:], whole[:, 1:])


def test_no_completion_shares_its_noise_with_a_sample() -> None:
    sample, completion = (SampleNoise(7, [k], (1, 4, 6)).normal() for k in (0, FIRST))
    assert not torch.equal(sample, completion)


def test_the_torch_threads_are_left_as_they_were() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(images=ORIGINALS[:1])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_row_of_another_sampler_completes_by_techniques_2_and_4() -> None:
    """Levels that overlap by a half between the ends of the training, and the step that keeps the variance best."""
    assert inpaint.completing(SAMPLER, [5.0, 0.1], 24) is SAMPLER
    found = inpaint.completing(Sampler("heun", LADDER, {}), [1.0, 0.3, 0.01], 24)
    assert found.kind == "langevin" and found.options["steps_per_level"] == 5
    assert (found.ladder.sigma_max, found.ladder.sigma_min) == (1.0, 0.01)
    assert overlap(1.0, 0.01, 24, found.ladder.num_levels) == pytest.approx(0.5, abs=0.03)
    u, ratio = found.options["step_size"] / 0.01**2, 100 ** (1 / (found.ladder.num_levels - 1))
    assert float(variance_ratio(u * torch.tensor([0.9, 1.0, 1.1]), ratio, 5).argmin()) == 1, "nearest to 1"
    made = run(sampler=found).astype(float) / 255
    assert np.abs(made[:, 1:, ..., 3:] - made[:, :1, ..., 2::-1]).mean() < 0.1, "the right mirrors the left"


def test_a_borrowed_sampler_that_diverges_costs_the_row_no_samples(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def exploding(x: Tensor, sigma: Tensor) -> Tensor:
        return x / x.sub(x)  # infinite

    params: Any = SimpleNamespace(generate=SimpleNamespace(**SETTINGS), compute=SimpleNamespace(use_gpu=False))
    inpaint.write_inpainting(tmp_path, mirrored, Sampler("heun", LADDER, {}), [1.0, 0.01], ORIGINALS, params, 7)
    assert [path.name for path in tmp_path.iterdir()] == ["inpainting.npy"]
    (tmp_path / "inpainting.npy").unlink()
    inpaint.write_inpainting(tmp_path, exploding, Sampler("heun", LADDER, {}), [1.0, 0.01], ORIGINALS, params, 7)
    assert not list(tmp_path.iterdir()) and "no images are completed: " in caplog.text and "diverged" in caplog.text
    with pytest.raises(UserError, match="diverged"):
        inpaint.write_inpainting(tmp_path, exploding, SAMPLER, [1.0, 0.01], ORIGINALS, params, 7)


def test_a_divergence_is_named() -> None:
    with pytest.raises(UserError, match="diverged"):
        run(sampler=Sampler.langevin(LADDER, step_size=1e3, steps_per_level=30))
