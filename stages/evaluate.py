"""Stage `evaluate VARIANT`: every number of the table for one variant, and the floor beside them."""

from pathlib import Path

import torch

from pipeline import door, tracking
from pipeline.data.dataset import open_dataset
from pipeline.files import sha256, write_json
from pipeline.metrics import features
from pipeline.metrics.likelihood import likelihood
from pipeline.metrics.variant import evaluate_variant, headline
from pipeline.params import Params
from pipeline.training.state import load_network


def main(params: Params, variant: str) -> None:
    """artifacts/{data,reference,{models,samples}/V} -> artifacts/{evaluation/V,metrics/V/*}.json."""
    data = open_dataset(Path("artifacts/data"))
    settings = params.evaluate.kwargs()
    held_out, bits = data.split("held_out"), settings.pop("likelihood")
    gpu = params.compute.use_gpu is not False and torch.cuda.is_available()
    with tracking.stage("evaluate", variant, params) as run:
        run.log_dataset(data.manifest)
        metrics = evaluate_variant(
            Path("artifacts/samples") / variant,
            data.split("train"),
            held_out,
            features.load(Path("artifacts/reference")),
            **settings,
        )
        network = load_network(Path("artifacts/models") / variant)
        metrics["bits_per_dim"] = likelihood(
            network, held_out, seed=settings["seed"], device="cuda" if gpu else "cpu", **bits
        )
        path = Path("artifacts/evaluation") / f"{variant}.json"
        write_json(path, metrics)
        for kind, numbers in headline(metrics).items():
            write_json(Path("artifacts/metrics") / variant / f"{kind}.json", numbers)
        run.set_tags({"metrics.sha256": sha256(path)})  # by which `report` knows whose numbers it shows
        run.log_metrics(metrics)


if __name__ == "__main__":
    door.run(main)
