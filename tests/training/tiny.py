"""A training small enough for tests: the real network, 8 channels wide, on 8 x 8 noise."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.ncsn.averages.exponential import Exponential
from pipeline.ncsn.losses.levels import Levels
from pipeline.training.optimizers.adam import Adam
from pipeline.training.schedules.constant import Constant
from pipeline.training.task import Task

EXACT = (
    "network.safetensors",
    "ema.safetensors",
    "optimizer.safetensors",
    "losses.safetensors",
    "state.json",
)

MakeTask = Callable[..., Task]


def make_task(lr: float = 1e-3, **changes: Any) -> Task:
    """A task of 8 steps; `lr` is Adam's, where no optimiser is given."""
    network = {"kind": "ncsnv2", "channels": 1, "image_size": 8, "width": 8, "sigmas": (1.0, 0.5, 0.1, 0.02)}
    settings: dict[str, Any] = {
        "network": network,
        "loss": Levels(),
        "optimizer": Adam(lr, (0.9, 0.999), 1e-8),
        "schedule": Constant(),
        "ema": Exponential(0.9),
        "dequantise": True,
        "flip": True,
        "steps": 8,
        "batch_size": 16,
        "micro_batches": 4,
        "determinism": "bitwise",
        "precision": "float32",
        "compile": False,
        "checkpoint_every": 3,
        "log_every": 2,
        "seed": 0,
        "data_sha256": "0" * 64,
    }
    return Task(**{**settings, **changes})


def make_images(count: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 1, 8, 8), np.uint8)


def kept(run_folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a run's snapshots."""
    found = sorted(path for path in (run_folder / "snapshots").rglob("*") if path.is_file())
    return {str(path.relative_to(run_folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def digest(folder: Path) -> dict[str, str]:
    """SHA-256 of all that a resumed run must reproduce."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in EXACT}
