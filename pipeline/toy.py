"""The two-dimensional experiments of NCSN, figures 2 and 3 (arXiv 1907.05600, sections 3.2 and 4.3).

The density is 1/5 N((-5, -5), I) + 4/5 N((5, 5), I).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.ncsn.losses import sliced_score_matching
from pipeline.ncsn.mixtures import GaussianMixture, Noisy
from pipeline.ncsn.networks import make_network
from pipeline.ncsn.noise import geometric_sigmas
from pipeline.samplers.langevin import annealed_langevin, langevin
from pipeline.samplers.seeds import SampleNoise

Array = NDArray[np.float32]

WEIGHTS = (0.2, 0.8)
MEANS = ((-5.0, -5.0), (5.0, 5.0))
HALF_WIDTH = 8.0
"""The figures and the samplers' start cover [-8, 8]^2."""

BATCH_SIZE, LEARNING_RATE, WIDTH = 128, 1e-3, 128
STEP_LR, LEVELS, STEPS_PER_LEVEL, STEPS = 0.1, 10, 100, 1_000
SIGMA_MAX, SIGMA_MIN = 20.0, 1.0
"""Appendix B.1's ladder. Section 4.3 says 10 to 0.1, with which the step of 0.1 diverges."""


@dataclass(frozen=True)
class ScoreFields:
    """Figure 2: the true and the estimated score on a grid over [-8, 8]^2, g points a side."""

    points: Array
    """(g, g, 2): x and y of each point, the first index along y."""
    true: Array
    """(g, g, 2): grad log p."""
    estimated: Array
    """(g, g, 2): the network's."""
    log_density: Array
    """(g, g): log p in nats."""
    losses: Array
    """(steps,): variance-reduced sliced score matching, the mean over each batch."""

    def squared_error(self) -> float:
        """The mean squared distance of the fields where p is: weighted by p over the grid's points."""
        weight = np.exp(self.log_density)
        error = np.square(self.estimated - self.true).sum(-1)
        return float((weight * error).sum() / weight.sum())


@dataclass(frozen=True)
class Panel:
    """A panel of figure 3."""

    name: str
    """Such as 'annealed_released'."""
    samples: Array
    """(n, 2)."""
    fraction: float
    """The part of the samples in the mode of weight 0.8."""
    spread: float
    """Root mean square distance to the own mode over sqrt(2): the standard deviation, 1 for p itself."""


@dataclass(frozen=True)
class Toy:
    """Everything both figures need."""

    fields: ScoreFields
    panels: tuple[Panel, ...]

    def metrics(self) -> dict[str, Any]:
        """The numbers of the figures, ready for JSON."""
        return {
            "score_squared_error": self.fields.squared_error(),
            "panels": {p.name: {"fraction": p.fraction, "spread": p.spread} for p in self.panels},
        }


def mixture(noisy: Noisy = "convolution") -> GaussianMixture:
    """The density of the toy experiments."""
    return GaussianMixture(WEIGHTS, torch.tensor(MEANS), 1.0, noisy=noisy)


def run(*, num_samples: int, steps: int, seed: int) -> Toy:
    """Both figures.

    Args:
        num_samples: in each panel of figure 3; 1,280 in the paper.
        steps: of training figure 2's network; 10,000 in the paper.
        seed: of everything random.
    """
    return Toy(score_fields(steps=steps, seed=seed), panels(num_samples=num_samples, seed=seed))


def score_fields(*, steps: int, seed: int, grid: int = 20) -> ScoreFields:
    """Figure 2: train the small network on samples of p without noise, and compare it on a grid."""
    network, losses = train(steps=steps, seed=seed)
    axis = torch.linspace(-HALF_WIDTH, HALF_WIDTH, grid)
    points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)
    flat = points.reshape(-1, 2)
    with torch.no_grad():
        estimated = network(flat, torch.ones(())).reshape(points.shape)
    return ScoreFields(
        points=points.numpy(),
        true=mixture().score(flat).reshape(points.shape).numpy(),
        estimated=estimated.numpy(),
        log_density=mixture().log_prob(flat).reshape(grid, grid).numpy(),
        losses=np.array(losses, dtype=np.float32),
    )


def train(*, steps: int, seed: int) -> tuple[nn.Module, list[float]]:
    """Fit the small network by variance-reduced sliced score matching, one normal projection a point.

    Returns:
        The network, and the loss of each step.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make_network("mlp", channels=2, image_size=1, width=WIDTH)
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    losses = []
    for _ in range(steps):
        x = mixture().sample(BATCH_SIZE, generator)
        projection = torch.randn(x.shape, generator=generator)
        loss = sliced_score_matching(network, x, torch.ones(()), projection, variance_reduced=True).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    return network, losses


def panels(*, num_samples: int, seed: int) -> tuple[Panel, ...]:
    """Figure 3 on exact scores: exact samples, Langevin dynamics, and annealed ones in both noisy laws."""
    exact = mixture().sample(num_samples, torch.Generator().manual_seed(seed))
    return (
        _panel("exact", exact),
        _panel("langevin", _langevin(num_samples, seed)),
        _panel("annealed_convolution", _annealed(num_samples, seed, "convolution")),
        _panel("annealed_released", _annealed(num_samples, seed, "released")),
    )


def _langevin(num_samples: int, seed: int) -> Tensor:
    rng, start = _start(num_samples, seed)
    clean = torch.zeros(())
    return langevin(
        mixture().score, start, rng, sigma=clean, step_size=STEP_LR, steps=STEPS, convention="paper"
    )


def _annealed(num_samples: int, seed: int, noisy: Noisy) -> Tensor:
    rng, start = _start(num_samples, seed)
    return annealed_langevin(
        mixture(noisy).score,
        geometric_sigmas(SIGMA_MAX, SIGMA_MIN, LEVELS),
        rng,
        step_lr=STEP_LR,
        steps_per_level=STEPS_PER_LEVEL,
        denoise=False,
        convention="paper",
        start=start,
    )


def _start(num_samples: int, seed: int) -> tuple[SampleNoise, Tensor]:
    rng = SampleNoise(seed, range(num_samples), (2,))
    return rng, HALF_WIDTH * (2 * rng.uniform() - 1)


def _panel(name: str, samples: Tensor) -> Panel:
    mode = mixture().mode(samples)
    deviation = samples - torch.tensor(MEANS)[mode]
    return Panel(
        name=name,
        samples=samples.numpy(),
        fraction=float(mode.double().mean()),
        spread=float(deviation.square().mean().sqrt()),
    )
