"""Score matching losses, per example: the mean over a batch is the caller's.

Of one score and one noise level their expectations differ by what no score can change, so that all have
the same gradients and the same minimiser, the score of the noisy data.
"""

from .denoising import (
    denoising_score_matching,
    edm_weighting,
    log_normal_sigma,
    log_uniform_sigma,
)
from .explicit import explicit_score_matching
from .sliced import annealed_sliced_score_matching, sliced_score_matching

__all__ = [
    "annealed_sliced_score_matching",
    "denoising_score_matching",
    "edm_weighting",
    "explicit_score_matching",
    "log_normal_sigma",
    "log_uniform_sigma",
    "sliced_score_matching",
]
