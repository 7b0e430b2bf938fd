"""Stage `evaluate NETWORK`: every number of the table for one network, and the floor beside them."""

from pathlib import Path

from pipeline import door, tracking
from pipeline.data.dataset import open_dataset
from pipeline.distributed import score
from pipeline.files import sha256, write_json
from pipeline.metrics import features
from pipeline.metrics.variant import evaluate_variant, headline
from pipeline.params import Params


def main(params: Params, network: str) -> None:
    """artifacts/{data,reference,samples/N} -> artifacts/{evaluation/N,metrics/N/{raw,denoised}}.json."""
    data = open_dataset(Path("artifacts/data"))
    compute, space = params.compute, features.load(Path("artifacts/reference"))
    spread = score.scorer(
        space,
        Path(compute.storage),
        workers=compute.workers,
        cpus_per_worker=compute.cpus_per_worker,
    )
    with spread as classifier, tracking.stage("evaluate", network, params) as run:
        run.log_dataset(data.manifest)
        metrics = evaluate_variant(
            Path("artifacts/samples") / network,
            data.split("train"),
            data.split("held_out"),
            classifier,
            **params.evaluate.kwargs(),
        )
        path = Path("artifacts/evaluation") / f"{network}.json"
        write_json(path, metrics)
        for kind, numbers in headline(metrics).items():
            write_json(Path("artifacts/metrics") / network / f"{kind}.json", numbers)
        run.set_tags({"metrics.sha256": sha256(path)})  # by which `report` knows whose numbers it shows
        run.log_metrics(metrics)


if __name__ == "__main__":
    door.run(main)
