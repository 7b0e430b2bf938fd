"""Moments of features that FIDs are taken against: of both splits, on disk, and of what searches judge by."""

from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from pipeline.metrics.space import features
from pipeline.metrics.space.features import FeatureSpace
from pipeline.metrics.space.fid import Moments, moments

STATISTICS = "statistics.safetensors"


def save_moments(folder: Path, statistics: dict[str, Moments]) -> None:
    """Write the moments of "train" and "held_out" to a folder."""
    tensors: dict[str, torch.Tensor] = {}
    for split, m in statistics.items():
        tensors |= {f"{split}.mean": m.mean, f"{split}.root": m.root, f"{split}.n": torch.tensor(m.n)}
    (folder / STATISTICS).write_bytes(safetensors.torch.save(tensors))


def load_moments(folder: Path, split: str) -> Moments:
    """The moments of the features of "train" or "held_out"; raises UserError where the file is damaged."""
    tensors = safetensors.torch.load_file(features.verified(folder, STATISTICS))
    return Moments(tensors[f"{split}.mean"], tensors[f"{split}.root"], int(tensors[f"{split}.n"]))


def search_moments(held_out: np.ndarray, space: FeatureSpace) -> Moments:
    """Of every second held-out image: both searches judge by it, and no FID of the report is against it."""
    return moments(space.features(held_out[::2]))
