"""What the search for a noise range is tested on: a tiny network and random images."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.metrics.fid import moments
from pipeline.ncsn.kinds import make
from pipeline.ncsn.ladder import Ladder
from pipeline.params.training import Recipe
from pipeline.search import Budget
from pipeline.search.noise_trial import NoiseSetup

RECIPE = Recipe.model_validate(
    {
        "network": {"kind": "ncsnv2", "width": 4},
        "loss": {"kind": "levels"},
        "steps": None,
        "optimizer": {"kind": "adam", "lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8},
        "schedule": {"kind": "constant"},
        "ema": {"kind": "exponential", "rate": 0.99},
        "dequantise": False,
        "flip": False,
    }
)
BOUNDS = {"sigma_max": [0.2, 1.0], "sigma_min": [0.5, 4.0], "num_levels": [0.5, 1.5]}
START = Ladder(2.0, 0.05, 6)


@dataclass(frozen=True)
class Pixels:
    """Pixels as features, in the place of a classifier."""

    def on(self, device: str) -> "Pixels":
        return self

    def features(self, images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype(np.float32)[:, :8] / 255


def made(**other: Any) -> NoiseSetup:
    """The setup of a small search; `other` fields as given."""
    rows = np.linspace(40, 220, 8)
    shades = np.random.default_rng(0).normal(0, 10, (64, 1, 8, 8))
    images = (rows[None, None, :, None] + shades).clip(0, 255).astype(np.uint8)
    plain = {
        "recipe": RECIPE,
        "full_steps": 100,
        "images": images,
        "features": Pixels(),
        "reference": moments(Pixels().features(images)),
        "budget": Budget(num_trials=4, rungs=(2, 10), reduction_factor=2, max_concurrent=2, seed=1),
        "batch_size": 16,
        "num_samples": 16,
        "max_nfe": 20,
    }
    return NoiseSetup(**{**plain, **other})


EDM = RECIPE.model_copy(
    update={
        "network": make("networks", {"kind": "unet", "width": 16}),
        "loss": make("losses", {"kind": "edm", "p_mean": -1.9, "p_std": 1.2}),
    }
)
RANGE = {"sigma_max": 40.0, "sigma_min": 0.001, "num_levels": 18}
LAW_BOUNDS = {"p_mean": [-1.0, 1.0], "p_std": [0.5, 1.5]}
