"""A network and a sampler small enough to draw from in every test."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.cluster import connect
from pipeline.generate.generate import Samples
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.networks import make_network
from pipeline.ncsn.sampler import Sampler

SHAPE = (1, 8, 8)
SAMPLER = Sampler.langevin(Ladder(1.0, 0.1, 3), step_size=1e-3, steps_per_level=2)
SETTINGS: dict[str, Any] = {
    "shape": SHAPE,
    "shard_size": 8,
    "precision": "float32",
    "compile": False,
    "seed": 7,
}


def make() -> torch.nn.Module:
    """Random weights, the same in every process; convolutions are where threads and batches change bits."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = make_network("ncsnv2", channels=1, image_size=8, width=4, sigmas=SAMPLER.ladder.sigmas())
    return made.eval().requires_grad_(False)


@contextlib.contextmanager
def in_this_process() -> Iterator[None]:
    """Whatever Ray is connected for other tests, draw in threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connect, "is_connected", lambda: False)
        yield


def same(a: Samples, b: Samples) -> bool:
    """Whether two sets of samples agree in every bit, and in what they cost."""
    pairs = [(a.raw, b.raw), (a.denoised, b.denoised), (a.intermediate, b.intermediate)]
    return all(np.array_equal(left, right) for left, right in pairs) and a.nfe == b.nfe
