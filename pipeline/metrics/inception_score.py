"""The inception score, split and averaged as the papers did."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy


def _score(p: NDArray[np.float64]) -> float:
    divergence = xlogy(p, p).sum(axis=1) - xlogy(p, p.mean(axis=0)).sum(axis=1)
    return float(np.exp(divergence.mean()))


def inception_score(probabilities: NDArray[np.floating], *, splits: int) -> tuple[float, float]:
    """exp E KL(p(y | x) || p(y)) in each of `splits` parts: their mean and standard deviation.

    The parts are cut in the order the samples come in, without shuffling, and the deviation is that
    of a population: the convention of the evaluators behind the papers' tables (arXiv 1606.03498).
    Libraries shuffle first, or divide by `splits` - 1.

    Args:
        probabilities: (n, K), each row of sum 1; n at least `splits`.
    """
    bounds = [k * len(probabilities) // splits for k in range(splits + 1)]
    scores = [_score(np.asarray(probabilities[i:j], dtype=np.float64)) for i, j in pairwise(bounds)]
    return float(np.mean(scores)), float(np.std(scores))
