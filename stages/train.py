"""Stage `train NETWORK`: a network trained on Ray Train, with its loss curve and what it took."""

import shutil
from pathlib import Path

import numpy as np

from pipeline import entry, tracking
from pipeline.cluster.train import fit, published
from pipeline.data.dataset import open_dataset
from pipeline.files import read_yaml, sha256, whole_folder, write_json
from pipeline.ncsn.kinds import make, plain
from pipeline.ncsn.noise import geometric_sigmas
from pipeline.params import Params
from pipeline.seeds import trainings
from pipeline.training import checkpoints, log, snapshots
from pipeline.training.task import Task, data_digest

OUT = Path("artifacts")


def main(params: Params, network: str) -> None:
    """artifacts/{data,noise/N.yaml} -> artifacts/{models/N,curves/N.csv,metrics/train_N.json}."""
    data = open_dataset(OUT / "data")
    images = data.split("train")
    task = _task(params, network, images)
    run_folder = Path(params.compute.storage) / task.fingerprint()
    tell = log.logging_progress(f"train {network}")
    with tracking.stage("train", network, params) as run:
        run.log_dataset(data.manifest)

        def on_event(progress: log.Progress) -> None:
            tell(progress)
            run.log_metrics(progress.metrics(), progress.step)

        compute = params.compute.kwargs()
        keys = ("workers", "most_workers", "cpus_per_worker", "use_gpu", "max_failures", "hang_timeout_s")
        sizes = {key: compute[key] for key in keys if key in compute}
        checkpoint = fit(task, images, run_folder, on_event=on_event, **sizes)
        taken = log.speed(run_folder, task.steps)
        run.log_metrics({"training": taken})
        _publish(checkpoint, task, network, taken["seconds"])
        published(run_folder, network)
        run.set_tags({"checkpoint.sha256": sha256(OUT / "models" / network / "manifest.json")})
        run.log_artifact(OUT / "curves" / f"{network}.csv")
        run.log_network(OUT / "models" / network, f"ncsn-{params.preset}-{network}", images.shape[1:])


def _task(params: Params, network: str, images: np.ndarray) -> Task:
    name, seed = trainings(params.networks, params.train.seed, params.extra_seeds)[network]
    noise, recipe = read_yaml(OUT / "noise" / f"{name}.yaml"), params.recipes[name]
    found = {key: noise[key] for key in recipe.loss.searched if key in noise}
    return Task.build(
        recipe.model_copy(update={"loss": make("losses", plain(recipe.loss) | found)}),
        params.train.model_copy(update={"seed": seed}),
        sigmas=geometric_sigmas(noise["sigma_max"], noise["sigma_min"], noise["num_levels"]),
        image_shape=images.shape[1:],
        data_sha256=data_digest(images),
    )


def _publish(checkpoint: Path, task: Task, network: str, seconds: float) -> None:
    rows = log.curve(checkpoints.read_losses(checkpoint), task)
    with whole_folder(OUT / "models" / network) as folder:
        shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
        snapshots.copy(checkpoint.parent, folder, task)
    log.write_curve(OUT / "curves" / f"{network}.csv", rows)
    write_json(OUT / "metrics" / f"train_{network}.json", {"loss": rows[-1].loss, "seconds": seconds})


if __name__ == "__main__":
    entry.run(main, submits=True)
