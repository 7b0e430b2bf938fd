"""What is kept of both splits' features: their moments, which every FID is taken against."""

from pathlib import Path

import safetensors.torch
import torch

from pipeline.metrics.space import features
from pipeline.metrics.space.fid import Moments

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
