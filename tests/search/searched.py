"""What the sampler search is tested on: the exact score of a mixture of images, without a network."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline.metrics.fid import moments
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.prior import Law
from pipeline.search import Budget
from pipeline.search.sampler_trial import SamplerSetup
from pipeline.toy.mixture import GaussianMixture

SHAPE = (1, 2, 2)
BOUNDS = {
    "budget_share": [0.3, 1.0],
    "step_size_ratio": [0.3, 6.0],
    "steps_per_level": [1, 4],
    "sigma_max_ratio": [0.2, 1.0],
    "sigma_min_ratio": [1.0, 2.0],
    "snr": [0.05, 0.4],
    "churn": [1.0, 40.0],
    "rho": [1.0, 9.0],
}
KINDS = ("langevin", "predictor_corrector", "dpm_solver")


@dataclass(frozen=True)
class Pixels:
    """Pixels as features, in the place of a classifier."""

    def on(self, device: str) -> "Pixels":
        return self

    def features(self, images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype(np.float32) / 255


@dataclass(frozen=True)
class Mixture:
    """Two bumps of images, as a score and as data."""

    def exact(self) -> GaussianMixture:
        means = torch.tensor([[0.2, 0.3, 0.2, 0.8], [0.8, 0.6, 0.7, 0.2]])
        return GaussianMixture([0.5, 0.5], means, 0.05)

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return self.exact().score(x.flatten(1), sigma).view_as(x)

    def images(self, n: int) -> np.ndarray:
        x = self.exact().sample(n, torch.Generator().manual_seed(0)).clamp(0, 1)
        return (x * 255).to(torch.uint8).numpy().reshape(n, *SHAPE)


def made(**other: Any) -> SamplerSetup:
    """The setup of a small search; `other` fields as given."""
    features = Pixels()
    plain = {
        "network": Mixture(),
        "trained": Ladder(1.5, 0.02, 10),
        "shape": SHAPE,
        "features": features,
        "reference": moments(features.features(Mixture().images(2000))),
        "budget": Budget(num_trials=8, rungs=(60, 120), reduction_factor=2, max_concurrent=2, seed=5),
        "law": Law.of(Mixture().images(500)),
        "max_nfe": 41,
        "kinds": KINDS,
    }
    return SamplerSetup(**{**plain, **other})
