"""Stage `tune_sampler`: every variant's sampler, the tuned one by a search on the trained network."""

from pathlib import Path

from pipeline import door, tracking
from pipeline.data.dataset import open_dataset
from pipeline.distributed import cluster, tune_sampler
from pipeline.distributed.search import Budget, resources
from pipeline.distributed.trials import tell, write_trials
from pipeline.files import read_yaml, whole_folder, write_yaml
from pipeline.metrics.space import features, statistics
from pipeline.params import Params
from pipeline.reporting import lines, style
from pipeline.samplers.settings import Ladder
from pipeline.training.state import load_network

ARTIFACTS, OUT = Path("artifacts"), Path("artifacts/sampler")
BOUNDS = ("step_lr", "steps_per_level", "sigma_max", "sigma_min", "num_levels")


def main(params: Params) -> None:
    """artifacts/{data,reference,noise,models} -> artifacts/sampler/{<variant>,best}.yaml, trials.csv."""
    rules = {variant: rule.kwargs() for variant, rule in params.sampler.items()}
    ladders = {variant: Ladder.read(read_yaml(ARTIFACTS / f"noise/{variant}.yaml")) for variant in rules}
    with tracking.stage("tune_sampler", None, params) as run:
        with whole_folder(OUT) as folder:
            tuned = {}
            if any(rule["rule"] == "tuned" for rule in rules.values()):
                found = _search(params, ladders[params.tune_sampler.variant], run)
                write_yaml(folder / "best.yaml", found.compared)
                write_trials(folder, found.records)
                trials = lines.read_trials(folder / "trials.csv", lines.STEP_SIZE)
                style.save(lines.trials(trials, lines.STEP_SIZE), folder, "trials", vector=False)
                tuned = {params.tune_sampler.variant: found.winner}
            for variant, sampler in tune_sampler.settled(rules, ladders, tuned).items():
                write_yaml(folder / f"{variant}.yaml", {**sampler.plain(), "rule": rules[variant]["rule"]})
                run.log_params({"sampler": {variant: sampler.plain()}})
        run.log_artifact(OUT)


def _search(params: Params, trained: Ladder, run: tracking.Run) -> tune_sampler.Found:
    tune, compute = params.tune_sampler, params.compute
    with cluster.connect(
        workers=compute.workers, cpus_per_worker=compute.cpus_per_worker, use_gpu=compute.use_gpu
    ) as gpus:
        setup = tune_sampler.Setup(
            network=load_network(ARTIFACTS / "models" / tune.variant),
            trained=trained,
            shape=open_dataset(ARTIFACTS / "data").split("train").shape[1:],
            classifier=features.load(ARTIFACTS / "reference"),
            reference=statistics.load_moments(ARTIFACTS / "reference", "train"),
            budget=Budget.read(tune.kwargs()),
            max_nfe=tune.max_nfe,
            device="cuda" if gpus else "cpu",
        )
        found = tune_sampler.tune(
            setup,
            bounds={key: getattr(tune, key) for key in BOUNDS},
            resources=resources(tune.max_concurrent, gpus > 0, compute.gpus_per_trial),
            on_trial=tell(run),
        )
    run.log_metrics(found.compared)
    return found


if __name__ == "__main__":
    door.run(main, submits=True)
