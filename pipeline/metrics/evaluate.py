"""One call from images to every number of the table."""

from importlib.metadata import version
from typing import Any

from pipeline.errors import UserError
from pipeline.metrics.features import Classifier, Images
from pipeline.metrics.fid import frechet_distance
from pipeline.metrics.inception_score import inception_score
from pipeline.metrics.kid import kernel_distance
from pipeline.metrics.neighbours import prdc


def evaluate(
    samples: Images,
    reference: Images,
    classifier: Classifier,
    *,
    nearest_k: int,
    kid_subsets: int,
    kid_subset_size: int,
    splits: int,
    seed: int,
) -> dict[str, Any]:
    """Samples uint8 (n, C, H, W) against reference images uint8 (m, C, H, W): a flat dict for JSON.

    Keys: fid, kid, kid_std, inception_score, inception_score_std, precision, recall, density,
    coverage, n, n_reference, evaluator. The floor is this call on held-out images against train:
    what a perfect model would score with as many samples.

    Args:
        nearest_k: neighbours in precision, recall, density and coverage.
        kid_subsets, kid_subset_size: of KID, drawn from `seed`.
        splits: of the inception score.

    Raises:
        UserError: too few images for one of the numbers, named by its key in params.yaml, or images
            that the classifier cannot take.
    """
    _check_sizes(len(samples), len(reference), nearest_k, kid_subset_size, splits)
    features, real = classifier.features(samples), classifier.features(reference)
    kid, kid_std = kernel_distance(
        features, real, subsets=kid_subsets, subset_size=kid_subset_size, seed=seed
    )
    score, score_std = inception_score(classifier.probabilities(samples), splits=splits)
    return {
        "fid": frechet_distance(features, real),
        "kid": kid,
        "kid_std": kid_std,
        "inception_score": score,
        "inception_score_std": score_std,
        **prdc(features, real, nearest_k=nearest_k),
        "n": len(samples),
        "n_reference": len(reference),
        "evaluator": evaluator(classifier),
    }


def evaluator(classifier: Classifier) -> str:
    """What computed each number, and in which feature space."""
    code = "FID, IS (unshuffled splits), precision to coverage: this project"
    return f"{classifier.name}; {code}; KID: torchmetrics {version('torchmetrics')}"


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
