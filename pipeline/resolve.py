"""Noise levels in numbers: as given, or analytic ones from the data set."""

import math
from collections.abc import Mapping
from typing import Any

from pipeline.ncsn import noise
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.ladder import Ladder
from pipeline.params.noise import AnalyticNoise, NoiseLevels
from pipeline.params.search import Analytic


def levels(settings: NoiseLevels | AnalyticNoise | Analytic, manifest: Mapping[str, Any]) -> Ladder:
    """The noise levels of an entry of `noise`, as given or analytic.

    Analytic levels are those of NCSNv2 (arXiv 2006.09011). By technique 1, sigma_max is the largest distance
    of two training images. By technique 2, there are as many levels as let neighbours overlap by `overlap`.

    Args:
        manifest: of the prepared data set.

    Raises:
        UserError: a single training image, or an overlap that no number of levels has.
    """
    if isinstance(settings, NoiseLevels):
        return Ladder(settings.sigma_max, settings.sigma_min, settings.num_levels)
    sigma_max, dim = manifest["max_pairwise_distance"], math.prod(manifest["shape"][1:])
    if sigma_max is None:
        raise UserError(
            "there is a single training image, and analytic noise needs the distance of two: give noise."
        )
    count = noise.num_levels(sigma_max, settings.sigma_min, dim, settings.overlap)
    return Ladder(sigma_max, settings.sigma_min, count)
