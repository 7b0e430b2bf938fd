"""Stage `tune_sampler`: every variant's sampler, the tuned ones by a search on the trained network."""

from pathlib import Path

from pipeline import entry, tracking
from pipeline.cluster import connect
from pipeline.files import read_yaml, whole_folder, write_yaml
from pipeline.ncsn.sampler import Ladder, Sampler
from pipeline.params import Params
from pipeline.reporting import sampler_search
from pipeline.search import Budget, Kept, resources
from pipeline.search import sampler as tune_sampler
from pipeline.search.found import write
from pipeline.search.records import tell
from pipeline.search.sampler_trial import Setup
from pipeline.search.sampler_verdict import RULES

ARTIFACTS, OUT = Path("artifacts"), Path("artifacts/sampler")


def main(params: Params) -> None:
    """artifacts/{data,reference,noise,models} -> artifacts/sampler/{<variant>,best}.yaml, *.csv, *.png."""
    rules = {variant: rule.kwargs() for variant, rule in params.sampler.items()}
    ladders = {variant: Ladder.read(read_yaml(ARTIFACTS / f"noise/{variant}.yaml")) for variant in rules}
    kept, samplers = Kept(Path(params.compute.storage), "tune_sampler"), dict[str, Sampler]()
    with tracking.stage("tune_sampler", None, params) as run:
        with whole_folder(OUT) as folder:
            if any(rule["rule"] in RULES for rule in rules.values()):
                found = _search(params, rules, ladders, run, kept)
                write(folder, found)
                sampler_search.draw(folder)
                samplers = found.samplers
            for variant, sampler in tune_sampler.settled(rules, ladders, samplers).items():
                write_yaml(folder / f"{variant}.yaml", {**sampler.plain(), "rule": rules[variant]["rule"]})
                run.log_params({"sampler": {variant: sampler.plain()}})
        kept.discard()
        run.log_artifact(OUT)


def _search(
    params: Params, rules: tune_sampler.Rules, ladders: dict[str, Ladder], run: tracking.Run, kept: Kept
) -> tune_sampler.Found:
    tune, compute, models = params.tune_sampler, params.compute, ARTIFACTS / "models"
    sizes = {key: getattr(compute, key) for key in ("workers", "cpus_per_worker", "use_gpu")}
    with connect.connect(**sizes) as gpus:
        setup = Setup.read(
            ARTIFACTS,
            tune.variant,
            ladders[tune.variant],
            budget=Budget.read(tune.kwargs()),
            max_nfe=tune.max_nfe[-1],
            kinds=tune.kinds,
            device="cuda" if gpus else "cpu",
        )
        found = tune_sampler.tune(
            setup,
            budgets=tune.max_nfe,
            bounds=tune.kwargs(),
            resources=resources(tune.max_concurrent, gpus > 0, compute.gpus_per_trial),
            repeats=tune.repeats,
            published=tune_sampler.published(models, rules, ladders, tune.baseline, tune.variant),
            on_trial=tell(run),
            kept=kept,
        )
    run.log_metrics(found.chosen.lines)
    return found


if __name__ == "__main__":
    entry.run(main, submits=True)
