"""Stage `tune_noise`: a search over short trainings for the noise range of one network."""

from pathlib import Path
from typing import Any

from pipeline import entry, resolve, tracking
from pipeline.cluster import connect
from pipeline.data.dataset import Dataset, open_dataset
from pipeline.files import whole_folder
from pipeline.metrics import features, fid
from pipeline.ncsn.kinds import plain
from pipeline.params import Params
from pipeline.search import Budget, SearchStore, log_normal, noise, noise_trial, resources
from pipeline.search.records import tell

ARTIFACTS, OUT = Path("artifacts"), Path("artifacts/tune_noise")


def main(params: Params) -> None:
    """artifacts/{data,features} -> artifacts/tune_noise/{best.yaml,*.csv}; nothing where num_trials is 0."""
    store = SearchStore(Path(params.compute.storage), "tune_noise")
    with tracking.stage("tune_noise", None, params) as run:
        with whole_folder(OUT) as folder:
            if params.tune_noise.num_trials:
                found = _search(params, open_dataset(ARTIFACTS / "data"), on_trial=tell(run), store=store)
                run.log_metrics(found.compared.lines)
                found.write(folder)
        store.publish()
        run.log_artifact(OUT)


def _points(params: Params, data: Dataset) -> dict[str, log_normal.NoiseRange]:
    """The starting points by name, the analytic choice first."""
    tune, loss = params.tune_noise, params.recipes[params.tune_noise.network].loss
    starts = {name: start.kwargs() for name, start in tune.starts.items()}
    if not loss.searched:
        analytic = resolve.levels(tune.analytic, data.manifest)
        return {"analytic": analytic} | {name: log_normal.read(start) for name, start in starts.items()}
    heun = tune.heun.kwargs()
    first = log_normal.starts(data.split("train"), heun, plain(loss))["analytic"]
    return {"analytic": first} | {name: log_normal.read({**heun, **start}) for name, start in starts.items()}


def _search(params: Params, data: Dataset, **options: Any) -> noise.Found:
    tune, compute, recipe = params.tune_noise, params.compute, params.recipes[params.tune_noise.network]
    points = _points(params, data)
    sizes = {key: getattr(compute, key) for key in ("cpus_per_worker", "use_gpu")}
    with connect.connect(workers=max(compute.workers, compute.workers_per_trial), **sizes) as gpus:
        device = "cuda" if gpus else "cpu"
        setup = noise_trial.Setup(
            recipe=recipe.kwargs(),
            full_steps=recipe.steps or params.train.steps,
            images=data.split("train"),
            classifier=features.load_space(ARTIFACTS / "features").on(device),
            reference=fid.load_moments(ARTIFACTS / "features", "search"),
            device=device,
            budget=Budget.read(tune.kwargs()),
            **{key: getattr(tune, key) for key in ("batch_size", "micro_batches", "num_samples", "max_nfe")},
        )
        reserved = resources(tune.max_concurrent, gpus > 0, compute.gpus_per_trial)
        options |= {"resources": reserved, "repeats": tune.repeats, "workers": compute.workers_per_trial}
        bounds = {setting: getattr(tune, key) for setting, key in noise.BOUNDS.items()}
        return noise.tune(setup, points.pop("analytic"), points, bounds=bounds, **options)


if __name__ == "__main__":
    entry.run(main, submits=True)
