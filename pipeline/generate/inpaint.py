"""Inpainting of held-out images: the left half stays and the rest is drawn, as in Fig 6 of the 2019 paper.

References:
    Y. Song, S. Ermon, arXiv 1907.05600, algorithm 2 and Fig 6; arXiv 2006.09011, techniques 2 and 4.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from pipeline.cluster import connect
from pipeline.cluster.connect import UseGpu, device
from pipeline.generate.draw import single_threaded
from pipeline.ncsn import noise
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.execution import evaluated
from pipeline.ncsn.images import to_uint8
from pipeline.ncsn.inpainting import inpainting
from pipeline.ncsn.rng import SampleNoise
from pipeline.ncsn.sampler import ANALYTIC, Ladder, Sampler
from pipeline.ncsn.score import Score

if TYPE_CHECKING:
    from pipeline.params import Params

logger = logging.getLogger(__name__)

IMAGES, COMPLETIONS = 4, 6
FIRST = 2**32
"""Index of the first completion's noise, beyond that of any sample: no completion starts as a sample does."""
OVERLAP, STEPS = 0.5, 5
"""Of NCSNv2: how far neighbouring levels overlap, and the steps at each, where a row has none of its own."""


def write_inpainting(
    folder: Path,
    network: Score,
    sampler: Sampler,
    trained: Sequence[float],
    images: np.ndarray,
    params: "Params",
    seed: int,
) -> None:
    """Write folder/inpainting.npy, what `complete` returns; nothing where a sampler that is not the row's diverges.

    Args:
        sampler: the row's.
        trained: see `completing`.
        network, images, seed: see `complete`.

    Raises:
        UserError: see `complete`.
    """
    settings = {key: getattr(params.generate, key) for key in ("shard_size", "precision", "compile")}
    chosen = completing(sampler, trained, images[0].size)
    try:
        completed = complete(network, chosen, images, seed=seed, use_gpu=params.compute.use_gpu, **settings)
    except UserError as error:
        if chosen is sampler:
            raise
        logger.warning("no images are completed: %s", error)
        return
    np.save(folder / "inpainting.npy", completed)


def completing(sampler: Sampler, trained: Sequence[float], dim: int) -> Sampler:
    """The annealed Langevin dynamics that completes a row's images: the row's own if it is drawn by it.

    Otherwise a ladder of technique 2 between the ends of the network's, with the step of technique 4.

    Args:
        trained: the levels that the network was trained on, descending.
        dim: values of an image.
    """
    if sampler.kind == ANALYTIC:
        return sampler
    first, final = trained[0], trained[-1]
    return Sampler.analytic(Ladder(first, final, noise.num_levels(first, final, dim, OVERLAP)), STEPS)


def complete(
    network: Score,
    sampler: Sampler,
    images: np.ndarray,
    *,
    shard_size: int,
    precision: str,
    compile: bool,
    seed: int,
    use_gpu: UseGpu,
) -> np.ndarray:
    """Draw the right halves of the first images by algorithm 2, each `COMPLETIONS` times.

    Completion k is a function of (seed, k), of the images and, as samples are, of the batch's size and the
    kind of device. It is computed here or, where RAY_ADDRESS names a cluster, there as one task.

    Args:
        network: the score, called with sigma.
        sampler: annealed Langevin dynamics, the only kind that inpainting is defined for: see `completing`.
        images: uint8 (n, C, H, W); the first `IMAGES` of them are used.
        shard_size: completions computed together, at most.
        precision, compile: see `pipeline.ncsn.execution.evaluated`.
        use_gpu: see `cluster.connect`.

    Returns:
        uint8 (IMAGES, 1 + COMPLETIONS, C, H, W), each original before its completions, whose known half ends
        with noise sigma_L as the paper's does.

    Raises:
        UserError: the dynamics diverged, or a GPU is asked for and there is none.
    """
    work = _Work(network, sampler, np.asarray(images[:IMAGES]), shard_size, precision, compile, seed)
    if not connect.is_remote():
        return work.on(device(use_gpu))
    import ray

    with connect.connect(workers=1, cpus_per_worker=1, use_gpu=use_gpu) as gpus:
        task = ray.remote(_Work.on).options(num_cpus=1, num_gpus=1 if gpus else 0)
        try:
            return np.array(ray.get(task.remote(work, "cuda" if gpus else "cpu")))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error


def known_columns(width: int) -> int:
    """How many columns of an image of this width are known: the left half."""
    return width // 2


@dataclass(frozen=True)
class _Work:
    network: Score
    sampler: Sampler
    originals: np.ndarray
    shard_size: int
    precision: str
    compile: bool
    seed: int

    def on(self, device: str) -> np.ndarray:
        """All completions on one device, on one thread."""
        threads = torch.get_num_threads()
        single_threaded()
        if isinstance(self.network, torch.nn.Module):
            self.network.to(device)
        try:
            total = len(self.originals) * COMPLETIONS
            starts = range(0, total, self.shard_size)
            parts = [self._part(range(i, min(i + self.shard_size, total)), device) for i in starts]
        finally:
            torch.set_num_threads(threads)
        drawn = np.concatenate(parts).reshape(-1, COMPLETIONS, *self.originals.shape[1:])
        return np.concatenate([self.originals[:, None], drawn], axis=1)

    def _part(self, completions: range, device: str) -> np.ndarray:
        known = torch.from_numpy(self.originals[[k // COMPLETIONS for k in completions]]) / 255
        mask = torch.arange(known.shape[-1]) < known_columns(known.shape[-1])
        x = inpainting(
            evaluated(self.network, precision=self.precision, compile=self.compile),
            self.sampler.ladder.sigmas(),
            SampleNoise(self.seed, [FIRST + k for k in completions], known.shape[1:], device),
            known=known,
            mask=mask,
            form="v1",
            **self.sampler.options,
        )
        return to_uint8(x).cpu().numpy()
