"""Number of function evaluations (NFE) of a sampler, counted rather than computed, and the levels it buys."""

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from .errors import UserError
from .rng import SampleNoise
from .sampler import Sampler
from .score import Score, match


class CountEvaluations:
    """A score that counts its evaluations.

    Attributes:
        nfe: network evaluations per sample so far; a call evaluates each sample of its batch once.
    """

    def __init__(self, score: Score) -> None:
        self.score = score
        self.nfe = 0

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The score at x, (B, *shape), and one more evaluation on the count."""
        self.nfe += 1
        return self.score(x, sigma)


def fitted(at: Callable[[int], Sampler], budget: int) -> Sampler:
    """The sampler of most levels that costs at most `budget` evaluations for each sample.

    Args:
        at: makes the sampler on a number of levels, each of which costs as much as any other.

    Raises:
        UserError: two levels are too much already, or the sampler refuses its ladder.
    """
    first, second = cost(at(2)), cost(at(3))
    if first > budget:
        raise UserError(f"two levels take {first} evaluations, of {budget}: raise the budget.")
    return at(2 + (budget - first) // (second - first))


def cost(sampler: Sampler) -> int:
    """Evaluations for each sample, the last denoising included."""
    counted = CountEvaluations(_normal)
    anywhere = replace(sampler, start=None)
    anywhere.sample(counted, SampleNoise(0, range(1), (1, 1, 1)), denoise=True)
    return counted.nfe


def _normal(x: Tensor, sigma: Tensor) -> Tensor:
    """The score of N(1/2, 1) at noise sigma."""
    return (0.5 - x) / (1 + match(sigma, x) ** 2)
