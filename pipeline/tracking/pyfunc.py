"""A logged network as MLflow loads it: plain code and safetensors, nothing unpickled.

MLflow's `loader_module` protocol: `_load_pyfunc` is given the model's folder and returns what predicts.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.training.checkpoints import load_network

CHECKPOINT = "checkpoint"
"""The folder of the checkpoint inside the model's."""


class ServedScore:
    """A score network called with arrays.

    Attributes:
        network: the module in evaluation mode, called as network(x, sigma).
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    @torch.no_grad()
    def predict(self, model_input: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """The score of images x (B, C, H, W) in [0, 1] units at noise levels sigma (B,): (B, C, H, W)."""
        x, sigma = (torch.from_numpy(np.array(model_input[name], np.float32)) for name in ("x", "sigma"))
        score: NDArray[np.float32] = self.network(x, sigma).numpy()
        return score


def _load_pyfunc(path: str) -> ServedScore:
    return ServedScore(load_network(Path(path) / CHECKPOINT))
