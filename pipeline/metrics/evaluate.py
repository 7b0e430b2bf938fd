"""One call from images to every number of the table."""

import dataclasses
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.metrics.features import FeatureSpace, Images
from pipeline.metrics.fid import Moments, distance, moments, standard_error
from pipeline.metrics.fid_infinity import fid_infinity
from pipeline.metrics.inception_score import inception_score
from pipeline.metrics.kid import kernel_distance
from pipeline.metrics.neighbours import prdc, radii
from pipeline.ncsn.errors import UserError


@dataclasses.dataclass(frozen=True)
class Described:
    """Images and what the classifier makes of them: found once, measured often."""

    images: Images
    features: NDArray[np.float32]
    """(n, D)."""
    probabilities: NDArray[np.float32]
    """(n, K), each row of sum 1; K 0 where it knows no classes."""
    _radii: dict[int, Tensor] = dataclasses.field(default_factory=dict, repr=False)

    @functools.cached_property
    def moments(self) -> Moments:
        """Of the features; raises UserError for n < 2."""
        return moments(self.features)

    def radii(self, nearest_k: int) -> Tensor:
        """(n,): the distance of each image's features to their k-th nearest neighbour."""
        if nearest_k not in self._radii:
            self._radii[nearest_k] = radii(self.features, nearest_k)
        return self._radii[nearest_k]

    @classmethod
    def by(cls, classifier: FeatureSpace, images: Images) -> "Described":
        """Images uint8 (n, C, H, W); raises UserError where the classifier cannot take them."""
        return cls(images, *classifier.both(images))


def evaluate(
    samples: Described,
    reference: Described,
    *,
    nearest_k: int,
    kid_subsets: int,
    kid_subset_size: int,
    splits: int,
    fid_points: int,
    seed: int,
) -> dict[str, Any]:
    """n samples against m reference images: a flat dict for JSON.

    Keys: fid, fid_stderr (`space.fid.standard_error`), fid_infinity, fid_infinity_stderr, kid,
    kid_std, inception_score, inception_score_std (both None without classes), precision, recall, density,
    coverage, n, n_reference.
    The floor is this call on other real images than the reference's (`pipeline.metrics.reference_split`): what a
    perfect model would score with as many samples.

    Args:
        nearest_k: neighbours in precision, recall, density and coverage.
        kid_subsets, kid_subset_size: of KID, drawn from `seed`.
        splits: of the inception score.
        fid_points: numbers of samples behind `fid_infinity`, whose subsets are drawn from `seed`.

    Raises:
        UserError: too few images for one of the numbers, named by its key in params.yaml.
    """
    n, n_reference = len(samples.features), len(reference.features)
    _check_sizes(n, n_reference, nearest_k, kid_subset_size, splits)
    features, real = samples.features, reference.features
    stderr = standard_error(features, reference.moments)
    kid, kid_std = kernel_distance(
        features, real, subsets=kid_subsets, subset_size=kid_subset_size, seed=seed
    )
    classes = samples.probabilities.shape[1]
    score, score_std = inception_score(samples.probabilities, splits=splits) if classes else (None, None)
    return {
        "fid": distance(samples.moments, reference.moments),
        "fid_stderr": stderr,
        **fid_infinity(features, reference.moments, points=fid_points, stderr=stderr, seed=seed),
        "kid": kid,
        "kid_std": kid_std,
        "inception_score": score,
        "inception_score_std": score_std,
        **prdc(features, real, nearest_k=nearest_k, reference_radii=reference.radii(nearest_k)),
        "n": n,
        "n_reference": n_reference,
    }


def evaluator(classifier: FeatureSpace) -> str:
    """What computed each number, and in which feature space."""
    return f"{classifier.name}; FID, KID, IS (unshuffled splits), precision to coverage: this project"


def _check_sizes(n: int, n_reference: int, nearest_k: int, kid_subset_size: int, splits: int) -> None:
    fewest = min(n, n_reference)
    limits = {
        "evaluate.kid_subset_size": (kid_subset_size, fewest),
        "evaluate.nearest_k": (nearest_k, fewest - 1),
        "evaluate.splits": (splits, n),
    }
    for key, (value, limit) in limits.items():
        if value > limit:
            raise UserError(
                f"{key} ({value}) is too large for {n} samples against {n_reference} reference images: "
                f"set it to {limit} or less, or raise generate.num_samples."
            )
    if kid_subset_size < 2:
        raise UserError("evaluate.kid_subset_size (1) leaves no unbiased estimate: set it to 2 or more.")
