"""All that is random in training, a function of position: (seed, step, microshard), never of the worker."""

from dataclasses import dataclass

import numpy as np
import torch

from pipeline.data.order import batch_indices
from pipeline.ncsn import kinds
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.losses import Loss
from pipeline.training.task import Task

STREAM = 0x7261696E  # keeps these draws apart from every other use of the same seed


@dataclass(frozen=True)
class Draw:
    """One microshard's examples: x, noise (B, C, H, W); sigma (B,); pixels in [0, 1]."""

    x: torch.Tensor
    sigma: torch.Tensor
    noise: torch.Tensor


def generator(seed: int, step: int, shard: int) -> np.random.Generator:
    """A generator that begins at (seed, step, shard); counter-based, so that no two positions overlap."""
    bits = np.random.Philox(
        key=np.array([seed, STREAM], np.uint64), counter=np.array([0, 0, step, shard], np.uint64)
    )
    return np.random.Generator(bits)


def microshards(task: Task, images: np.ndarray, step: int, shards: range, device: torch.device) -> list[Draw]:
    """The examples of some microshards of a step, counted from 0.

    Args:
        images: (N, C, H, W) uint8, read-only is enough.

    Raises:
        UserError: there are fewer images than a batch holds.
    """
    if len(images) < task.batch_size:
        raise UserError(
            f"train.batch_size ({task.batch_size}) exceeds the {len(images)} training images: lower it."
        )
    order = batch_indices(task.seed, step, task.batch_size, len(images))
    parts = np.asarray(order).reshape(task.microshards, -1)
    return [_draw(task, images[parts[shard]], generator(task.seed, step, shard), device) for shard in shards]


def _draw(task: Task, pixels: np.ndarray, rng: np.random.Generator, device: torch.device) -> Draw:
    sigma = sigmas(task, rng, len(pixels))
    noise = rng.standard_normal(pixels.shape, np.float32)
    if task.flip:
        turned = rng.random(len(pixels)) < 0.5
        pixels = np.where(turned[:, None, None, None], pixels[..., ::-1], pixels)
    x = _dequantised(pixels, rng) if task.dequantise else pixels.astype(np.float32) / np.float32(255)
    return Draw(*(torch.as_tensor(a).to(device) for a in (x, sigma, noise)))


def sigmas(task: Task, rng: np.random.Generator, count: int) -> torch.Tensor:
    """The noise of each example, (count,) float32, by the law that the task's loss names.

    "levels": a level of the ladder, each as likely (NCSN, equation 6). "log_uniform": any sigma between
    the ladder's ends. "edm": log-normal (arXiv 2206.00364, table 1), ladder or not.
    """
    loss: Loss = kinds.make("losses", task.loss)
    return loss.sigmas(rng, count, torch.tensor(task.network["sigmas"]))


def _dequantised(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """x * 255/256 + U[0, 1)/256 with x = pixels/255, as NCSN (arXiv 1907.05600) was trained."""
    return (pixels.astype(np.float32) + rng.random(pixels.shape, np.float32)) / np.float32(256)
