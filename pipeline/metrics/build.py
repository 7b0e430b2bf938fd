"""The feature space of a data set, made once: classifier, statistics and the floor."""

import dataclasses
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from pipeline.files import whole_folder, write_json
from pipeline.metrics import features
from pipeline.metrics.classifier import train_classifier
from pipeline.metrics.features import PRETRAINED, Classifier, Images
from pipeline.metrics.fid import distance, moments
from pipeline.metrics.pretrained import Pretrained
from pipeline.metrics.selftest import selftest
from pipeline.metrics.statistics import save_moments
from pipeline.ncsn.errors import UserError

SELFTEST = "selftest.json"
Split = tuple[Images, NDArray[np.int64]]
"""Images uint8 (N, C, H, W) and their labels (N,)."""


class Training(TypedDict):
    """The keyword arguments of `train_classifier`."""

    width: int
    epochs: int
    batch_size: int
    lr: float
    seed: int


def build(
    folder: Path, train: Split, held_out: Split, *, kind: str, device: str = "cpu", **settings: Any
) -> dict[str, Any]:
    """Make the feature space and write it, with the moments of features (`statistics`), to `folder`.

    The evaluator is asked first what is known (`pipeline.metrics.selftest`); the answers go to selftest.json.

    Args:
        kind: "classifier", trained here, or one of `PRETRAINED`, such as "inception", the papers'.
        device: where the features are computed, "cpu" or "cuda"; a classifier is trained on the CPU.
        settings: of the former min_accuracy and those of `train_classifier`, of the latter those of
            `Pretrained.read`.

    Returns:
        floor_fid, which is held-out against train; n, n_reference, evaluator; of a classifier
        train_accuracy and held_out_accuracy.

    Raises:
        UserError: held-out accuracy below `min_accuracy`, weights that cannot be had or believed, or a
            failed self-test; nothing is written then.
    """
    space, accuracies = (
        _pretrained(kind, **settings) if kind in PRETRAINED else _trained(train, held_out, **settings)
    )
    space = space.on(device)
    found = {"train": space.features(train[0]), "held_out": space.features(held_out[0])}
    checks = selftest(**found)
    statistics = {split: moments(x) for split, x in found.items()}
    statistics["search"] = moments(found["held_out"][::2])
    with whole_folder(folder) as part:
        save_moments(part, statistics)
        write_json(part / SELFTEST, checks)
        features.save(space, part)
    return {
        **accuracies,
        "floor_fid": distance(statistics["held_out"], statistics["train"]),
        "n": len(held_out[0]),
        "n_reference": len(train[0]),
        "evaluator": space.name,
    }


def _pretrained(kind: str, *, weights: str | None, sha256: str) -> tuple[Pretrained, dict[str, float | None]]:
    return PRETRAINED[kind].read(weights, sha256), {}


def _trained(
    train: Split, held_out: Split, *, min_accuracy: float, **training: Unpack[Training]
) -> tuple[Classifier, dict[str, float | None]]:
    classifier = _qualified(train_classifier(*train, **training), held_out, min_accuracy)
    accuracies = {
        "train_accuracy": classifier.accuracy(*train),
        "held_out_accuracy": classifier.held_out_accuracy,
    }
    return classifier, accuracies


def _qualified(classifier: Classifier, held_out: Split, min_accuracy: float) -> Classifier:
    accuracy = classifier.accuracy(*held_out)
    if accuracy < min_accuracy:
        raise UserError(
            f"the reference classifier is right on {accuracy:.4f} of the held-out images, below "
            f"reference.min_accuracy ({min_accuracy}): raise reference.epochs or reference.width, "
            "or lower the bound."
        )
    return dataclasses.replace(classifier, held_out_accuracy=accuracy)
