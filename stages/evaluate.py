"""Stage `evaluate NETWORK`: every number of the table for one network, and the floor beside them."""

from pathlib import Path

from pipeline import entry, tracking
from pipeline.cluster.connect import device
from pipeline.data.dataset import open_dataset
from pipeline.files import sha256, write_json
from pipeline.generate import score
from pipeline.metrics import features
from pipeline.metrics.bits_per_dim import likelihood
from pipeline.metrics.evaluate_row import evaluate_variant, headline
from pipeline.metrics.reference_split import UNSEEN
from pipeline.params import Params, searched
from pipeline.selected_checkpoint import network_folder
from pipeline.training.checkpoints import load_network


def main(params: Params, network: str) -> None:
    """artifacts/{data,reference,{models,samples,selection}/N} -> artifacts/{evaluation/N,metrics/N}."""
    variant = params.networks()[network].variant
    data, compute = open_dataset(Path("artifacts/data")), params.compute
    settings = params.evaluate.kwargs()
    held_out, bits = data.split("held_out"), settings.pop("likelihood")
    spread = score.scorer(
        features.load(Path("artifacts/reference")),
        Path(compute.storage),
        workers=compute.workers,
        cpus_per_worker=compute.cpus_per_worker,
        use_gpu=compute.use_gpu,
    )
    with spread as space, tracking.stage("evaluate", network, params) as run:
        run.log_dataset(data.manifest)
        metrics = evaluate_variant(
            Path("artifacts/samples") / network,
            data.split("train"),
            held_out,
            space,
            searched=searched(params.noise[variant], params.sampler[variant]),
            **settings,
        )
        metrics["bits_per_dim"] = likelihood(
            load_network(network_folder(Path("artifacts"), network)),
            held_out[UNSEEN],
            seed=settings["seed"],
            device=device("auto" if compute.use_gpu else False),
            **bits,
        )
        path = Path("artifacts/evaluation") / f"{network}.json"
        write_json(path, metrics)
        for kind, numbers in headline(metrics).items():
            write_json(Path("artifacts/metrics") / network / f"{kind}.json", numbers)
        run.set_tags({"metrics.sha256": sha256(path)})  # by which `report` knows whose numbers it shows
        run.log_metrics(metrics)


if __name__ == "__main__":
    entry.run(main)
