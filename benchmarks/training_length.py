"""FID against the length of training: how far the default budget is from the floor, and what would close it.

    python -m benchmarks.training_length --network ncsnv2 --steps 400 800 1600

Needs `dvc repro features settle_noise`. One process and one thread; samples and seeds are not the report's.
"""

import argparse
import sys
import time
from pathlib import Path

from pipeline.data.dataset import open_dataset
from pipeline.files import read_json, read_yaml
from pipeline.metrics import features, fid
from pipeline.ncsn.ladder import Ladder
from pipeline.params import load
from pipeline.search import Budget, noise_trial

ARTIFACTS = Path("artifacts")


def setup(network: str, steps: int) -> noise_trial.NoiseSetup:
    """The recipe and batch of params.yaml for a number of steps, judged on as many samples as the report uses."""
    params = load()
    changed = {"rungs": [steps], "num_trials": 1, "max_concurrent": 1}
    tune = params.tune_noise.model_copy(update=changed)
    return noise_trial.NoiseSetup(
        recipe=params.recipes[network],
        full_steps=steps,
        images=open_dataset(ARTIFACTS / "data").split("train"),
        features=features.load_space(ARTIFACTS / "features"),
        reference=fid.load_moments(ARTIFACTS / "features", "train"),
        device="cpu",
        budget=Budget.of(tune),
        batch_size=params.train.batch_size,
        num_samples=params.generate.num_samples,
        max_nfe=151,  # what ncsnv2 spends in the report
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--network", default="ncsnv2")
    parser.add_argument("--steps", type=int, nargs="+", default=[400, 800, 1600])
    given = parser.parse_args()
    floor = read_json(ARTIFACTS / "metrics/features.json")["floor_fid"]
    ladder = Ladder.read(read_yaml(ARTIFACTS / f"noise/{given.network}.yaml"))
    sys.stdout.write("| steps | CPU seconds | loss | FID | times the floor |\n| --: | --: | --: | --: | --: |\n")
    for steps in given.steps:  # a training for each: the rate decays over all its steps
        start = time.process_time()
        (found,) = noise_trial.trial(ladder.plain(), setup(given.network, steps))
        fid, seconds = found["fid"], time.process_time() - start
        row = f"{found['steps']:,} | {seconds:.0f} | {found['loss']:.2f} | {fid:.2f} | {fid / floor:.1f}"
        sys.stdout.write(f"| {row} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
