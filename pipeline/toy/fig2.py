"""Figure 2: the score of the mixture next to the one that a small network estimates."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.ncsn import eager
from pipeline.ncsn.score import match
from pipeline.progress import reported
from pipeline.toy.mixture import HALF_WIDTH, Array, mixture
from pipeline.toy.score_matching import sliced_score_matching

BATCH_SIZE, LEARNING_RATE, WIDTH = 128, 1e-3, 128


class MLP(nn.Module):
    """Three linear layers with softplus between, divided by sigma (sigma = 1: the plain network).

    Unlike the image networks it takes x as it is, in any unit.
    """

    def __init__(self, *, dim: int, width: int) -> None:
        """
        Args:
            dim: the number of values of a point.
            width: hidden units, 128 in the paper.
        """
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, width),
            nn.Softplus(),
            nn.Linear(width, width),
            nn.Softplus(),
            nn.Linear(width, dim),
        )

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The score of points, (B, *shape) with `dim` values each, at sigma, () or (B,)."""
        h: Tensor = self.layers(x.flatten(1))
        return h.view_as(x) / match(sigma, x)


@dataclass(frozen=True)
class ScoreFields:
    """The true and the estimated score on a grid over [-8, 8]^2, g points a side."""

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


def score_fields(*, steps: int, seed: int, grid: int = 20) -> ScoreFields:
    """Train the small network on samples of p without noise, and compare it on a grid."""
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
        network = MLP(dim=2, width=WIDTH)
    optimiser = eager.EagerAdam(network.parameters(), lr=LEARNING_RATE)
    losses = []
    for _ in reported("figure 2, steps", range(steps), steps):
        x = mixture().sample(BATCH_SIZE, generator)
        projection = torch.randn(x.shape, generator=generator)
        loss = sliced_score_matching(network, x, torch.ones(()), projection, variance_reduced=True).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    return network, losses
