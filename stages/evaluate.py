"""Stage `evaluate ROW`: every number of the table for one row, next to the floor's."""

from pathlib import Path

from pipeline import entry, tracking
from pipeline.cluster.connect import device
from pipeline.data.dataset import open_dataset
from pipeline.files import read_yaml, sha256, write_json
from pipeline.generate import score
from pipeline.metrics import features
from pipeline.metrics.evaluate_row import evaluate_row, headline
from pipeline.params import Params
from pipeline.seeds import table_rows
from pipeline.selected_checkpoint import network_folder
from pipeline.training.checkpoints import load_network

ARTIFACTS = Path("artifacts")


def main(params: Params, row: str) -> None:
    """artifacts/{data,features,models,sampler,samples,selection} -> artifacts/{evaluation,metrics}."""
    settled = read_yaml(ARTIFACTS / f"sampler/{table_rows(params.rows, params.extra_seeds)[row].row}.yaml")
    data, compute = open_dataset(ARTIFACTS / "data"), params.compute
    samples, model = ARTIFACTS / "samples" / row, network_folder(ARTIFACTS, row)
    spread = score.scorer(
        features.load_space(ARTIFACTS / "features"),
        Path(compute.storage),
        workers=compute.workers,
        cpus_per_worker=compute.cpus_per_worker,
        use_gpu=compute.use_gpu,
    )
    with spread as space, tracking.stage("evaluate", row, params) as run:
        run.log_dataset(data.manifest)
        metrics = evaluate_row(
            samples,
            data.split("train"),
            data.split("held_out"),
            space,
            load_network(model),
            params.evaluate,
            searched=bool(settled["searches"]),
            device=device("auto" if compute.use_gpu else False),
        )
        path = ARTIFACTS / f"evaluation/{row}.json"
        write_json(path, metrics)
        write_json(ARTIFACTS / f"metrics/{row}.json", headline(metrics))
        run.set_tags({"metrics.sha256": sha256(path)})  # by which `report` knows whose numbers it shows
        run.log_metrics(metrics)
        run.log_samples(samples)
        drawn = {"stage": "generate", "row": row, "samples.sha256": sha256(samples / "manifest.json")}
        run.log_row(model, f"ncsn-{params.preset}-{row}", headline(metrics), drawn)


if __name__ == "__main__":
    entry.run(main)
