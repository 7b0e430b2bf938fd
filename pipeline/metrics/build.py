"""Stage `features`: the feature space of a data set, its self-test, the moments of features and the floor."""

from pathlib import Path

from pipeline.files import whole_folder, write_json
from pipeline.metrics import features
from pipeline.metrics.features import FeatureKind, Split
from pipeline.metrics.fid import distance, moments, save_moments
from pipeline.metrics.selftest import selftest
from pipeline.ncsn.kinds import kind_of

SELFTEST = "selftest.json"


def build(
    folder: Path, train: Split, held_out: Split, settings: FeatureKind, *, device: str = "cpu"
) -> dict[str, float | str]:
    """Build the feature space and write it, with the moments of features (`statistics`), to `folder`.

    The evaluator first has to pass `pipeline.metrics.selftest`; its answers go to selftest.json.

    Args:
        device: where the features are computed, "cpu" or "cuda"; a classifier is trained on the CPU.

    Returns:
        floor_fid, of the held-out images against the training images; n, n_reference, evaluator; of a
        classifier also train_accuracy and held_out_accuracy.

    Raises:
        UserError: held-out accuracy below `min_accuracy`, weights that are missing or have another hash, or a
            failed self-test; nothing is written then.
    """
    built = settings.build(train, held_out)
    space = built.space.on(device)
    found = {"train": space.features(train[0]), "held_out": space.features(held_out[0])}
    checks = selftest(**found)
    statistics = {split: moments(x) for split, x in found.items()}
    statistics["search"] = moments(found["held_out"][::2])
    with whole_folder(folder) as part:
        save_moments(part, statistics)
        write_json(part / SELFTEST, checks)
        features.save(space, kind_of(settings), part)
    return {
        **built.accuracies,
        "floor_fid": distance(statistics["held_out"], statistics["train"]),
        "n": len(held_out[0]),
        "n_reference": len(train[0]),
        "evaluator": space.name,
    }
