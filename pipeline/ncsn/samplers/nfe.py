"""The cost of a sample, counted rather than computed."""

from torch import Tensor

from ..score import Score


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
