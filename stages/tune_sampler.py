"""Stage `tune_sampler`: a search, without training, for the sampler of one trained network."""

from pathlib import Path

from pipeline import entry, tracking
from pipeline.cluster import connect
from pipeline.files import read_yaml, whole_folder
from pipeline.ncsn.ladder import Ladder
from pipeline.params import Params
from pipeline.search import Budget, SearchStore, resources
from pipeline.search import sampler as tune_sampler
from pipeline.search.records import track_trials
from pipeline.search.sampler_trial import SamplerSetup
from pipeline.search.sampler_verdict import Baseline
from pipeline.training.checkpoints import load_network

ARTIFACTS, OUT = Path("artifacts"), Path("artifacts/tune_sampler")


def main(params: Params) -> None:
    """artifacts/{data,features,noise,models} -> artifacts/tune_sampler/{best.yaml,*.csv}."""
    store = SearchStore(Path(params.compute.storage), "tune_sampler")
    with tracking.stage("tune_sampler", None, params) as run:
        with whole_folder(OUT) as folder:
            if params.tune_sampler.num_trials:
                found = _search(params, run, store)
                run.log_metrics({name: line.plain() for name, line in found.chosen.lines.items()})
                found.write(folder)
        store.publish()
        run.log_artifact(OUT)


def _search(params: Params, run: tracking.Run, store: SearchStore) -> tune_sampler.FoundSampler:
    tune, compute = params.tune_sampler, params.compute
    sizes = {key: getattr(compute, key) for key in ("workers", "cpus_per_worker", "use_gpu")}
    with connect.connect(**sizes) as gpus:
        setup = SamplerSetup.read(
            ARTIFACTS,
            tune.network,
            _ladder(tune.network),
            budget=Budget.of(tune),
            max_nfe=tune.max_nfe[-1],
            kinds=tune.kinds,
            device="cuda" if gpus else "cpu",
        )
        return tune_sampler.tune(
            setup,
            budgets=tune.max_nfe,
            bounds=tune.kwargs(),
            resources=resources(tune.max_concurrent, gpus > 0, compute.gpus_per_trial),
            repeats=tune.repeats,
            baseline=_baseline(params),
            on_trial=track_trials(run),
            store=store,
        )


def _baseline(params: Params) -> Baseline:
    given = params.tune_sampler.baseline
    sampler = given.sampler.on(_ladder(given.network))
    return Baseline(given.network, load_network(ARTIFACTS / "models" / given.network), sampler)


def _ladder(network: str) -> Ladder:
    return Ladder.read(read_yaml(ARTIFACTS / f"noise/{network}.yaml"))


if __name__ == "__main__":
    entry.run(main, submits=True)
