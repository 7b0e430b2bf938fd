"""Stage `tune_noise`: a search over short trainings for the noise range of one network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import entry, settle, tracking
from pipeline.cluster import connect
from pipeline.data.dataset import Dataset, open_dataset
from pipeline.files import whole_folder
from pipeline.metrics import features, fid
from pipeline.ncsn.ladder import Ladder
from pipeline.params import Params
from pipeline.search import Budget, SearchStore, log_normal, noise, noise_trial, resources
from pipeline.search.records import track_trials

ARTIFACTS, OUT = Path("artifacts"), Path("artifacts/tune_noise")


def main(params: Params) -> None:
    """artifacts/{data,features} -> artifacts/tune_noise/{best.yaml,*.csv}; nothing where num_trials is 0."""
    store = SearchStore(Path(params.compute.storage), "tune_noise")
    with tracking.stage("tune_noise", None, params) as run:
        with whole_folder(OUT) as folder:
            if params.tune_noise.num_trials:
                data = open_dataset(ARTIFACTS / "data")
                found = _search(params, data, on_trial=track_trials(run), store=store)
                run.log_metrics({name: line.plain() for name, line in found.compared.lines.items()})
                found.write(folder)
        store.publish()
        run.log_artifact(OUT)


def _points(params: Params, data: Dataset) -> Mapping[str, log_normal.NoiseRange]:
    """The starting points by name, the analytic choice first."""
    tune, loss = params.tune_noise, params.recipes[params.tune_noise.network].loss
    starts = {name: start.kwargs() for name, start in tune.starts.items()}
    if not loss.searched:
        analytic = settle.levels(tune.analytic, data.manifest)
        return {"analytic": analytic} | {name: Ladder.read(start) for name, start in starts.items()}
    heun = tune.heun.kwargs()
    first = log_normal.analytic_law(data.split("train"), Ladder.read(heun))
    return {"analytic": first} | {n: log_normal.LogNormal.read({**heun, **s}) for n, s in starts.items()}


def _search(params: Params, data: Dataset, **options: Any) -> noise.FoundNoise:
    tune, compute, recipe = params.tune_noise, params.compute, params.recipes[params.tune_noise.network]
    points = dict(_points(params, data))
    sizes = {key: getattr(compute, key) for key in ("cpus_per_worker", "use_gpu")}
    with connect.connect(workers=max(compute.workers, compute.workers_per_trial), **sizes) as gpus:
        device = "cuda" if gpus else "cpu"
        setup = noise_trial.NoiseSetup(
            recipe=recipe,
            full_steps=recipe.steps or params.train.steps,
            images=data.split("train"),
            features=features.load_space(ARTIFACTS / "features").on(device),
            reference=fid.load_moments(ARTIFACTS / "features", "search"),
            device=device,
            budget=Budget.of(tune),
            drawn_by=tune.sampler,
            **{key: getattr(tune, key) for key in ("batch_size", "micro_batches", "num_samples", "max_nfe")},
        )
        reserved = resources(tune.max_concurrent, gpus > 0, compute.gpus_per_trial)
        options |= {"resources": reserved, "repeats": tune.repeats, "workers": compute.workers_per_trial}
        bounds = {setting: getattr(tune, key) for setting, key in noise.BOUNDS.items()}
        return noise.tune(setup, points.pop("analytic"), points, bounds=bounds, **options)


if __name__ == "__main__":
    entry.run(main, submits=True)
