"""Stage `features`: the feature space that samples are judged in, its self-test, and the floor's FID."""

from pathlib import Path

from pipeline import entry, tracking
from pipeline.cluster.connect import device
from pipeline.data.dataset import open_dataset
from pipeline.files import write_json
from pipeline.metrics.build import build
from pipeline.params import Params


def main(params: Params) -> None:
    """artifacts/data -> artifacts/features, artifacts/metrics/features.json."""
    data = open_dataset(Path("artifacts/data"))
    train = (data.split("train"), data.split_labels("train"))
    held_out = (data.split("held_out"), data.split_labels("held_out"))
    with tracking.stage("features", None, params) as run:
        where = device("auto" if params.compute.use_gpu else False)
        metrics = build(Path("artifacts/features"), train, held_out, params.features, device=where)
        shown = ("held_out_accuracy", "floor_fid")
        write_json(Path("artifacts/metrics/features.json"), {key: metrics[key] for key in shown if key in metrics})
        run.log_metrics(metrics)


if __name__ == "__main__":
    entry.run(main)
