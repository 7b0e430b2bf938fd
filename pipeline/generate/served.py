"""A logged network as MLflow loads it: plain code, JSON and safetensors, nothing unpickled.

MLflow's `loader_module` protocol: `_load_pyfunc` is given the model's folder and returns what predicts.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.data.dataset import open_dataset
from pipeline.files import read_json, write_json
from pipeline.generate.draw import Shape, draw, single_threaded
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.execution import evaluated
from pipeline.ncsn.prior import Law
from pipeline.ncsn.sampler import Sampler
from pipeline.training.checkpoints import load_network

CHECKPOINT = "checkpoint"
"""The folder of the checkpoint inside the model's."""
DRAWN, LAW = "samples.json", "law.safetensors"
"""How the row's samples were drawn, and the law of the data that a sampler may start from."""
Arrays = Mapping[str, NDArray[np.float32]]


def write_drawn(folder: Path, manifest: Path, shape: Shape, data: Path | None) -> None:
    """Add to a model's folder how a row's samples are drawn.

    Args:
        manifest: that of the samples, as `generate` writes it.
        shape: (C, H, W) of a sample.
        data: the prepared data set, for a sampler that starts at its law.

    Raises:
        UserError: the data set is damaged.
    """
    drawn = read_json(manifest)
    write_json(folder / DRAWN, {key: drawn[key] for key in drawn if key != "sha256"} | {"shape": list(shape)})
    if data:
        law = Law.of(open_dataset(data).split("train"))
        save_file({"mean": law.mean, "root": law.root}, folder / LAW)


class ServedNetwork:
    """A score network called with arrays, and the samples that its row's sampler draws with it.

    Attributes:
        network: the module in evaluation mode, called as network(x, sigma).
        drawn: how the row's samples were drawn, such as `sampler`, `seed` and `shard_size`; empty for a
            network by itself, which has no sampler.
    """

    def __init__(self, network: nn.Module, drawn: Mapping[str, Any], law: Law | None = None) -> None:
        self.network, self.drawn, self._law = network, drawn, law

    def get_raw_model(self) -> nn.Module:
        """The torch module: MLflow's `load_model(...).get_raw_model()`."""
        return self.network

    def predict(self, model_input: Arrays, params: Mapping[str, Any] | None = None) -> NDArray[Any]:
        """The score of images, or samples.

        Args:
            model_input: x (B, C, H, W) in [0, 1] units and sigma (B,), noise levels.
            params: `num_samples` above 0 asks for samples instead, whatever the images; `seed` of their noise;
                `denoise`: with the last denoising step.

        Returns:
            float32 (B, C, H, W), the score; or uint8 (num_samples, C, H, W), with the row's own seed the first
            samples of `generate`.

        Raises:
            UserError: samples of a network without a sampler, or the dynamics diverged.
        """
        asked = params or {}
        if asked.get("num_samples", 0) > 0:
            return self._samples(asked["num_samples"], asked.get("seed"), denoise=asked.get("denoise", True))
        x, sigma = (torch.from_numpy(np.array(model_input[name], np.float32)) for name in ("x", "sigma"))
        with torch.no_grad():
            score: NDArray[np.float32] = self.network(x, sigma).numpy()
        return score

    def _samples(self, count: int, seed: int | None, *, denoise: bool) -> NDArray[np.uint8]:
        """Whole shards, as `generate` draws them, cut to what is asked: bits depend on a batch's size."""
        if not self.drawn:
            raise UserError("this model has no sampler: load the one that `generate` registered, ncsn-PRESET-ROW.")
        size = min(self.drawn["shard_size"], self.drawn["num_samples"] * self.drawn["sample_sets"])
        threads = torch.get_num_threads()
        single_threaded()
        try:
            seed = self.drawn["seed"] if seed is None else seed
            shards = [self._shard(range(first, first + size), seed, denoise) for first in range(0, count, size)]
        finally:
            torch.set_num_threads(threads)
        return np.concatenate(shards)[:count]

    def _shard(self, indices: range, seed: int, denoise: bool) -> NDArray[np.uint8]:
        score = evaluated(self.network, precision=self.drawn["precision"], compile=self.drawn["compile"])
        sampler, shape = Sampler.read(self.drawn["sampler"]), tuple(self.drawn["shape"])
        made = draw(score, sampler, seed=seed, indices=indices, shape=shape, law=self._law)
        return made.denoised if denoise else made.raw


def _load_pyfunc(path: str) -> ServedNetwork:
    folder = Path(path)
    drawn = read_json(folder / DRAWN) if (folder / DRAWN).exists() else {}
    law = Law(**load_file(folder / LAW)) if (folder / LAW).exists() else None
    return ServedNetwork(load_network(folder / CHECKPOINT), drawn, law)
