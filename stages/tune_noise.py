"""Stage `tune_noise`: every variant's noise range, the tuned one by a search over short trainings."""

from pathlib import Path
from typing import Any

from pipeline import entry, tracking
from pipeline.cluster import connect
from pipeline.data.dataset import open_dataset
from pipeline.files import whole_folder, write_yaml
from pipeline.metrics import features, statistics
from pipeline.params import Params
from pipeline.reporting import noise_search
from pipeline.search import Budget, SearchStore, log_normal, noise, noise_trial, resources
from pipeline.search.records import tell

DATA, REFERENCE, OUT = Path("artifacts/data"), Path("artifacts/reference"), Path("artifacts/noise")


def main(params: Params) -> None:
    """artifacts/{data,reference} -> artifacts/noise/{<variant>,analytic,best}.yaml, *.csv, *.png."""
    rules = {variant: rule.kwargs() for variant, rule in params.noise.items()}
    images = open_dataset(DATA).split("train")
    start = noise.analytic(images, **params.tune_noise.analytic.kwargs())
    ranges = noise.settled(rules, images)
    store = SearchStore(Path(params.compute.storage), "tune_noise")
    with tracking.stage("tune_noise", None, params) as run:
        with whole_folder(OUT) as folder:
            if ranges.keys() != rules.keys():
                others = {v: ladder for v, ladder in ranges.items() if rules[v]["rule"] != "continuous"}
                points = {"analytic": start, **others}
                found = _search(params, images, points, on_trial=tell(run), store=store)
                run.log_metrics(found.compared.lines)
                found.write(folder)
                noise_search.draw(folder)
                ranges = {variant: ranges.get(variant, found.winner) for variant in rules}
            write_yaml(folder / "analytic.yaml", start.plain())
            for variant, one in ranges.items():
                write_yaml(folder / f"{variant}.yaml", {**one.plain(), "rule": rules[variant]["rule"]})
                run.log_params({"noise": {variant: one.plain()}})
        store.publish()
        run.log_artifact(OUT)


def _search(
    params: Params, images: noise.Images, points: dict[str, log_normal.NoiseRange], **options: Any
) -> noise.Found:
    tune, compute, recipe = params.tune_noise, params.compute, params.recipes[params.tune_noise.variant]
    if (rule := params.noise[tune.variant].kwargs())["rule"] == "tuned_continuous":
        points = log_normal.starts(images, rule, recipe.loss.kwargs())
    sizes = {key: getattr(compute, key) for key in ("cpus_per_worker", "use_gpu")}
    with connect.connect(workers=max(compute.workers, compute.workers_per_trial), **sizes) as gpus:
        device = "cuda" if gpus else "cpu"
        setup = noise_trial.Setup(
            recipe=recipe.kwargs(),
            full_steps=recipe.steps or params.train.steps,
            images=images,
            classifier=features.load(REFERENCE).on(device),
            reference=statistics.load_moments(REFERENCE, "search"),
            device=device,
            budget=Budget.read(tune.kwargs()),
            **{key: getattr(tune, key) for key in ("batch_size", "microshards", "num_samples", "max_nfe")},
        )
        reserved = resources(tune.max_concurrent, gpus > 0, compute.gpus_per_trial)
        options |= {"resources": reserved, "repeats": tune.repeats, "workers": compute.workers_per_trial}
        return noise.tune(setup, points.pop("analytic"), points, bounds=tune.kwargs(), **options)


if __name__ == "__main__":
    entry.run(main, submits=True)
