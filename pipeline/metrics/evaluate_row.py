"""Evaluation of a row: the measures of its samples, raw and denoised, with the floor next to them."""

from pathlib import Path
from typing import Protocol

from torch import nn

from pipeline.metrics.drawn import Drawn
from pipeline.metrics.features import FeatureSpace, Images
from pipeline.metrics.inputs import (
    UNSEEN,
    Described,
    EvaluateSettings,
    ImageInputs,
    NetworkInputs,
    SampleInputs,
    SplitSettings,
    nearest_distances,
    reference_split,
    spread,
)
from pipeline.metrics.measures import Evaluation, compute, results
from pipeline.metrics.neighbours import nearest
from pipeline.ncsn.errors import UserError
from pipeline.progress import reported

SHOWN, NEIGHBOURS = 8, 5
"""Samples whose nearest training images are named, and how many of these."""


class RowSettings(EvaluateSettings, SplitSettings, Protocol):
    """Section `evaluate` of params.yaml."""


def evaluate_row(
    folder: Path,
    train: Images,
    held_out: Images,
    space: FeatureSpace,
    network: nn.Module,
    settings: RowSettings,
    *,
    searched: bool,
    device: str = "cpu",
) -> Evaluation:
    """Evaluate samples/ROW/{raw,denoised}.npy against one split, with images of the other as the floor.

    Args:
        folder: what `generate` wrote: see `Drawn`.
        train, held_out: uint8 (n, C, H, W).
        network: that the samples were drawn with, for the measures of a network.
        searched: see `reference_split`.

    Returns:
        raw, denoised, floor: what `evaluate` gives, `evaluator` and `reference` (`ReferenceSplit.name`); the
        floor's of the first N images of the other split (of all, where they are fewer), the others of the
        first set and with the measures of samples; nfe {raw, denoised}, num_samples; further_sets {raw,
        denoised}: lists of such dicts of the other sets, each scored alone; neighbours {pixels, features}:
        for each of the first 8 denoised samples the indices of the 5 nearest training images, the nearest
        first; the measures of the network.

    Raises:
        UserError: a missing or damaged file, or what `evaluate` raises.
    """
    drawn = Drawn.read(folder)
    sets = {kind: drawn.sets(kind) for kind in ("raw", "denoised")}
    described = reported("features of samples", sets.items(), len(sets))
    first = {kind: Described.by(space, images) for kind, (images, *_) in described}
    trained, count = Described.by(space, train), drawn.num_samples
    real = reference_split(trained, held_out, space, settings, num_samples=count, searched=searched)
    fresh = real.floor if settings.reference == "train" else Described.by(space, spread(held_out, count))
    fresh_distances = nearest_distances(fresh, trained)
    names = {"evaluator": evaluator(space), "reference": real.name}

    def scored(images: Described) -> Evaluation:
        inputs = SampleInputs(images, real.reference, settings, trained, fresh_distances)
        return evaluate(inputs) | names | compute("samples", inputs)

    return {
        **{kind: scored(images) for kind, images in reported("sets scored", first.items(), len(first))},
        "floor": evaluate(ImageInputs(real.floor, real.reference, settings)) | names,
        "further_sets": {
            kind: [scored(Described.by(space, images)) for images in others] for kind, (_, *others) in sets.items()
        },
        "nfe": drawn.nfe,
        "num_samples": count,
        "neighbours": _neighbours(first["denoised"], trained),
        **compute("network", NetworkInputs(network, held_out[UNSEEN], settings, device)),
    }


def evaluate(inputs: ImageInputs) -> Evaluation:
    """n images against m reference images: the measures of images (`pipeline.metrics.measures`), n and m.

    The floor is this call on other real images than the reference's: what a perfect model would score with as
    many samples.

    Raises:
        UserError: too few images for one of the numbers, named by its key in params.yaml.
    """
    n, n_reference = len(inputs.images.features), len(inputs.reference.features)
    _check_sizes(n, n_reference, inputs.settings)
    return compute("images", inputs) | {"n": n, "n_reference": n_reference}


def evaluator(space: FeatureSpace) -> str:
    """What computed each number, and in which feature space."""
    return f"{space.name}; FID, KID, IS (unshuffled splits), precision to coverage: this project"


def _check_sizes(n: int, n_reference: int, settings: EvaluateSettings) -> None:
    fewest = min(n, n_reference)
    limits = {
        "evaluate.kid_subset_size": (settings.kid_subset_size, fewest),
        "evaluate.nearest_k": (settings.nearest_k, fewest - 1),
        "evaluate.splits": (settings.splits, n),
    }
    for key, (value, limit) in limits.items():
        if value > limit:
            raise UserError(
                f"{key} ({value}) is too large for {n} samples against {n_reference} reference images: "
                f"set it to {limit} or less, or raise generate.num_samples."
            )
    if settings.kid_subset_size < 2:
        raise UserError("evaluate.kid_subset_size (1) leaves no unbiased estimate: set it to 2 or more.")


def _neighbours(samples: Described, trained: Described) -> dict[str, list[list[int]]]:
    k = min(NEIGHBOURS, len(trained.images))
    pairs = zip(samples.spaces.items(), trained.spaces.values(), strict=True)
    return {space: nearest(x[:SHOWN], train, k=k)[1].tolist() for (space, x), train in pairs}


def headline(evaluation: Evaluation) -> dict[str, float | None]:
    """What DVC and MLflow compare of a row: few numbers of the denoised samples, and their NFE."""
    compared = [one for one in results() if one.of != "network" and one.compared]
    return {one.name: one.read(evaluation["denoised"]) for one in compared} | {"nfe": evaluation["nfe"]["denoised"]}
