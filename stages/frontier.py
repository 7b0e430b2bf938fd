"""Stage `frontier`: FID against network evaluations, for every kind of sampler on one trained network."""

from pathlib import Path

from pipeline import entry, tracking
from pipeline.cluster.connect import has_gpu
from pipeline.files import read_json, read_yaml, whole_folder
from pipeline.metrics import features, fid
from pipeline.ncsn.ladder import Ladder
from pipeline.params import Params
from pipeline.search.frontier import FrontierPoint, FrontierSetup, frontier, write_frontier
from pipeline.selected_checkpoint import network_folder
from pipeline.training.checkpoints import load_network

ARTIFACTS, OUT = Path("artifacts"), Path("artifacts/frontier")


def main(params: Params) -> None:
    """artifacts/{models,selection,noise,features} -> artifacts/frontier/{frontier.csv,manifest.json}."""
    settings = params.frontier.kwargs()
    with tracking.stage("frontier", None, params) as run:
        setup, found = _setup(params), []
        for point in frontier(setup, settings["nfe"]):
            found.append(point)
            if isinstance(point, FrontierPoint):
                run.log_metrics({"fid": {point.sampler.kind: point.fid}}, point.nfe)
        with whole_folder(OUT) as folder:
            write_frontier(folder, found, settings)
        run.log_artifact(OUT)


def _setup(params: Params) -> FrontierSetup:
    chosen, compute = params.frontier, params.compute
    gpu = has_gpu(compute.use_gpu)
    model, device = network_folder(ARTIFACTS, chosen.network), "cuda" if gpu else "cpu"
    trained = read_json(model / "state.json")["task"]["network"]
    return FrontierSetup(
        network=load_network(model, device),
        trained=Ladder.read(read_yaml(ARTIFACTS / f"noise/{chosen.network}.yaml")),
        shape=(trained["channels"], trained["image_size"], trained["image_size"]),
        features=features.load_space(ARTIFACTS / "features").on(device).features,
        reference=fid.load_moments(ARTIFACTS / "features", "train"),
        options=chosen.options,
        workers=1 if gpu else compute.workers * compute.cpus_per_worker,
        device=device,
        **{key: getattr(chosen, key) for key in ("num_samples", "shard_size", "seed", "rho")},
    )


if __name__ == "__main__":
    entry.run(main, submits=True)
