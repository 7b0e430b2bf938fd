"""Log-normal law of sigma of a network that is trained at any noise, and where its search starts.

EDM (T. Karras et al., arXiv 2206.00364, section 5 and table 1) draws log sigma ~ N(p_mean, p_std^2) with
p_mean -1.2 and p_std 1.2, chosen for data of standard deviation 0.5.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.nfe import fitted
from pipeline.ncsn.sampler import Sampler
from pipeline.ncsn.samplers.heun import Heun

P_MEAN, P_STD, SIGMA_DATA, RHO = -1.2, 1.2, 0.5, 7.0
"""EDM's table 1; RHO is the exponent of its levels for sampling."""
_CHUNK = 4_096


@dataclass(frozen=True)
class LogNormal:
    """Training noise without a ladder, in units of pixels in [0, 1]: log sigma ~ N(p_mean, p_std^2)."""

    ladder: Ladder
    """The range that is sampled on, given and not searched."""
    p_mean: float
    p_std: float

    def plain(self) -> dict[str, float]:
        """The settings as YAML holds them, those of the ladder among them."""
        return {**self.ladder.plain(), "p_mean": self.p_mean, "p_std": self.p_std}

    @classmethod
    def read(cls, plain: Mapping[str, float]) -> Self:
        """The inverse of `plain`; other keys are ignored.

        Raises:
            UserError: a key of the ladder is missing.
        """
        return cls(Ladder.read(plain), plain["p_mean"], plain["p_std"])

    def sampler(self, max_nfe: int) -> Sampler:
        """Heun's method (EDM, algorithm 1) between the ladder's ends, on the most levels that cost `max_nfe`.

        Raises:
            UserError: two levels cost more.
        """
        return fitted(lambda n: Heun(n, RHO).on(self.ladder), max_nfe)


NoiseRange = Ladder | LogNormal
"""What a trial is trained on."""


def read_noise_range(plain: Mapping[str, float]) -> NoiseRange:
    """The inverse of `plain` of either."""
    return LogNormal.read(plain) if "p_mean" in plain else Ladder.read(plain)


def searched(noise_range: NoiseRange) -> tuple[str, ...]:
    """The settings that a search for such a range tries: the law's, or the ladder's."""
    ladder, law = parts(noise_range)
    return tuple(law or ladder.plain())


def parts(noise_range: NoiseRange) -> tuple[Ladder, dict[str, float]]:
    """The ladder, and what the loss has to know besides: p_mean and p_std, or nothing."""
    if isinstance(noise_range, Ladder):
        return noise_range, {}
    return noise_range.ladder, {"p_mean": noise_range.p_mean, "p_std": noise_range.p_std}


def analytic_law(images: np.ndarray, ladder: Ladder) -> LogNormal:
    """EDM's law at this data's spread, where a search starts.

    EDM's median of sigma is exp(-1.2), 0.6 of its data's standard deviation; here it is 0.6 of this data's.
    p_std is a spread of log sigma, which knows no unit.

    Args:
        images: uint8 (N, C, H, W), the train split.
        ladder: the range that is sampled on.

    Raises:
        UserError: all pixels are equal.
    """
    return LogNormal(ladder, math.log(spread(images)) + (P_MEAN - math.log(SIGMA_DATA)), P_STD)


def spread(images: np.ndarray) -> float:
    """The standard deviation of all pixels of uint8 images (N, C, H, W) as values in [0, 1].

    Raises:
        UserError: it is 0.
    """
    parts = (images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK))
    counts = sum(np.bincount(part.reshape(-1), minlength=256) for part in parts)
    values = np.arange(256) / 255
    found = math.sqrt(np.average((values - np.average(values, weights=counts)) ** 2, weights=counts))
    if found == 0:
        raise UserError("all pixels of the training images are equal: there is no spread to fit noise to.")
    return found
