"""Score matching against a score that is known: for tests and toys.

References:
    A. Hyvärinen, "Estimation of Non-Normalized Statistical Models by Score Matching", 2005, equation 2.
"""

from torch import Tensor

from ..score import Score


def explicit_score_matching(score: Score, target: Score, x: Tensor, sigma: Tensor) -> Tensor:
    """1/2 ||score(x, sigma) - target(x, sigma)||^2, half the Fisher divergence in expectation.

    Args:
        score: the score model.
        target: the true score, such as that of a `GaussianMixture`.
        x: points of the density whose score is the target, (B, *shape).
        sigma: handed to both, () or (B,).

    Returns:
        (B,), summed over pixels and channels; the other losses are this one but for a constant.
    """
    return (score(x, sigma) - target(x, sigma)).square().flatten(1).sum(1) / 2
