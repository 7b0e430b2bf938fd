"""The density of Figures 2 and 3: 1/5 N((-5, -5), I) + 4/5 N((5, 5), I)."""

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.ncsn.mixtures import GaussianMixture, Noisy

Array = NDArray[np.float32]

WEIGHTS = (0.2, 0.8)
MEANS = ((-5.0, -5.0), (5.0, 5.0))
HALF_WIDTH = 8.0
"""The figures and the samplers' start cover [-8, 8]^2."""


def mixture(noisy: Noisy = "convolution") -> GaussianMixture:
    """The density of the toy experiments."""
    return GaussianMixture(WEIGHTS, torch.tensor(MEANS), 1.0, noisy=noisy)
