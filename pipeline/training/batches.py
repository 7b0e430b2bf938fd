"""Batches: all that is random in training, a function of (seed, step, micro-batch), never of the worker."""

from dataclasses import dataclass

import numpy as np
import torch

from pipeline.data.order import batch_indices
from pipeline.ncsn.errors import UserError
from pipeline.training.task import Task

STREAM = 0x7261696E
"""Keeps this randomness apart from every other use of the same seed."""


@dataclass(frozen=True)
class MicroBatch:
    """One fixed part of a batch: x, noise (B, C, H, W), pixels in [0, 1]; sigma (B,)."""

    x: torch.Tensor
    sigma: torch.Tensor
    noise: torch.Tensor


def generator(seed: int, step: int, part: int) -> np.random.Generator:
    """A generator that starts at (seed, step, part); counter-based, so that no two positions overlap."""
    bits = np.random.Philox(key=np.array([seed, STREAM], np.uint64), counter=np.array([0, 0, step, part], np.uint64))
    return np.random.Generator(bits)


def micro_batches(task: Task, images: np.ndarray, step: int, parts: range, device: torch.device) -> list[MicroBatch]:
    """Some parts of a step's batch.

    Args:
        images: (N, C, H, W) uint8, which may be read-only.
        step: the number of steps done before, from 0.
        parts: which, below `task.micro_batches`.

    Raises:
        UserError: there are fewer images than a batch holds.
    """
    if len(images) < task.batch_size:
        raise UserError(f"train.batch_size ({task.batch_size}) exceeds the {len(images)} training images: lower it.")
    order = batch_indices(task.seed, step, task.batch_size, len(images))
    indices = np.asarray(order).reshape(task.micro_batches, -1)
    return [_examples(task, images[indices[part]], generator(task.seed, step, part), device) for part in parts]


def _examples(task: Task, pixels: np.ndarray, rng: np.random.Generator, device: torch.device) -> MicroBatch:
    # The order of these draws is part of the result: sigma, noise, flips, dequantisation.
    sigma = task.loss.sigmas(rng, len(pixels), torch.tensor(task.network["sigmas"]))
    noise = rng.standard_normal(pixels.shape, np.float32)
    if task.flip:
        flipped = rng.random(len(pixels)) < 0.5
        pixels = np.where(flipped[:, None, None, None], pixels[..., ::-1], pixels)
    x = _dequantised(pixels, rng) if task.dequantise else pixels.astype(np.float32) / np.float32(255)
    return MicroBatch(*(torch.as_tensor(a).to(device) for a in (x, sigma, noise)))


def _dequantised(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """x * 255/256 + U[0, 1)/256 with x = pixels/255, as NCSN (arXiv 1907.05600) was trained."""
    return (pixels.astype(np.float32) + rng.random(pixels.shape, np.float32)) / np.float32(256)
