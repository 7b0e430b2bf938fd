"""Moments of features on disk, which every FID is taken against.

"train" and "held_out" are those of the splits; "search" those of every second held-out image, which the
searches judge by, and no FID of the report.
"""

from pathlib import Path

import safetensors.torch
import torch

from pipeline.metrics import features
from pipeline.metrics.fid import Moments

STATISTICS = "statistics.safetensors"


def save_moments(folder: Path, statistics: dict[str, Moments]) -> None:
    """Write moments by their names to a folder."""
    tensors: dict[str, torch.Tensor] = {}
    for split, m in statistics.items():
        tensors |= {f"{split}.mean": m.mean, f"{split}.root": m.root, f"{split}.n": torch.tensor(m.n)}
    (folder / STATISTICS).write_bytes(safetensors.torch.save(tensors))


def load_moments(folder: Path, name: str) -> Moments:
    """The moments of "train", "held_out" or "search"; raises UserError where the file is damaged."""
    tensors = safetensors.torch.load_file(features.verified(folder, STATISTICS))
    return Moments(tensors[f"{name}.mean"], tensors[f"{name}.root"], int(tensors[f"{name}.n"]))
