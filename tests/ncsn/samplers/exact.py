"""What the tests of the ODE's solvers share: mixtures, a ladder, the exact solution, and an error's order."""

import math
from collections.abc import Callable

import numpy as np
import scipy.integrate
import torch
from torch import Tensor

from pipeline.ncsn.rng import SampleNoise
from pipeline.toy.mixture import GaussianMixture

HIGH, LOW = 5.0, 0.1
IMAGE = (1, 2, 2)
NO_NOISE = SampleNoise(0, [], (1,))
"""For runs with a given start and no churn, which draw nothing."""


def mixture(dim: int) -> GaussianMixture:
    means = torch.rand(3, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return GaussianMixture((0.2, 0.3, 0.5), means, 0.1)


def image_mixture() -> GaussianMixture:
    means = torch.tensor([0.2, 0.8]).view(2, 1, 1, 1).expand(2, *IMAGE)
    return GaussianMixture((0.3, 0.7), means, 0.05)


def ladder(steps: int) -> Tensor:
    """From HIGH to LOW, geometric, in float64: halving every step, in log sigma, doubles `steps`."""
    return torch.linspace(math.log(HIGH), math.log(LOW), steps + 1, dtype=torch.float64).exp()


def slope(error: Callable[[int], float]) -> float:
    """The order of convergence: minus the slope of log error over log steps."""
    steps = (64, 128, 256)
    return -float(np.polyfit(np.log(steps), np.log([error(n) for n in steps]), 1)[0])


def solved(score: Callable[[Tensor, Tensor], Tensor], start: Tensor) -> Tensor:
    """The ODE from HIGH to LOW by SciPy's DOP853, to 1e-12."""

    def field(sigma: float, x: np.ndarray) -> np.ndarray:
        s = torch.tensor(sigma, dtype=start.dtype)
        return (-s * score(torch.from_numpy(x).view_as(start), s)).flatten().numpy()

    found = scipy.integrate.solve_ivp(field, (HIGH, LOW), start.flatten().numpy(), "DOP853", rtol=1e-12, atol=1e-12)
    return torch.from_numpy(found.y[:, -1]).view_as(start)
