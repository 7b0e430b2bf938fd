"""Stage `tune_noise`: every variant's noise ladder, the tuned one by a search over short trainings."""

from pathlib import Path
from typing import Any

from pipeline import door, tracking
from pipeline.data.dataset import open_dataset
from pipeline.distributed.compute import cluster
from pipeline.distributed.noise_range import noise_trial, tune_noise
from pipeline.distributed.search import Budget, Kept, resources
from pipeline.distributed.search.trials import tell
from pipeline.files import whole_folder, write_yaml
from pipeline.metrics.space import features, statistics
from pipeline.params import Params
from pipeline.reporting import lines, style
from pipeline.samplers.settings import Ladder

DATA, REFERENCE, OUT = Path("artifacts/data"), Path("artifacts/reference"), Path("artifacts/noise")


def main(params: Params) -> None:
    """artifacts/{data,reference} -> artifacts/noise/{<variant>,analytic,best}.yaml, {trials,rungs}.csv."""
    rules = {variant: rule.kwargs() for variant, rule in params.noise.items()}
    images = open_dataset(DATA).split("train")
    start = tune_noise.analytic(images, **params.tune_noise.analytic.kwargs())
    ladders = tune_noise.settled(rules, images)
    kept = Kept(Path(params.compute.storage), "tune_noise")
    with tracking.stage("tune_noise", None, params) as run:
        with whole_folder(OUT) as folder:
            if ladders.keys() != rules.keys():
                points = {v: ladder for v, ladder in ladders.items() if rules[v]["rule"] != "continuous"}
                found = _search(params, images, start, points, on_trial=tell(run), kept=kept)
                run.log_metrics(found.compared.lines)
                found.write(folder)
                trials = lines.read_trials(folder / "trials.csv", lines.NOISE_RANGE)
                style.save(lines.trials(trials, lines.NOISE_RANGE), folder, "trials", vector=False)
                ladders = {variant: ladders.get(variant, found.winner) for variant in rules}
            write_yaml(folder / "analytic.yaml", start.plain())
            for variant, ladder in ladders.items():
                write_yaml(folder / f"{variant}.yaml", {**ladder.plain(), "rule": rules[variant]["rule"]})
                run.log_params({"noise": {variant: ladder.plain()}})
        kept.discard()
        run.log_artifact(OUT)


def _search(
    params: Params, images: tune_noise.Images, start: Ladder, others: dict[str, Ladder], **options: Any
) -> tune_noise.Found:
    tune, compute, recipe = params.tune_noise, params.compute, params.recipes[params.tune_noise.variant]
    sizes = {key: getattr(compute, key) for key in ("cpus_per_worker", "use_gpu")}
    with cluster.connect(workers=max(compute.workers, compute.workers_per_trial), **sizes) as gpus:
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
        bounds = {key: getattr(tune, key) for key in ("sigma_max", "sigma_min", "num_levels")}
        reserved = resources(tune.max_concurrent, gpus > 0, compute.gpus_per_trial)
        options |= {"resources": reserved, "repeats": tune.repeats, "workers": compute.workers_per_trial}
        return tune_noise.tune(setup, start, others, bounds=bounds, **options)


if __name__ == "__main__":
    door.run(main, submits=True)
