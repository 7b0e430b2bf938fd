"""What the loop of a sampler costs beside its network calls: goal, at most 3 per cent.

    python -m benchmarks.sampler_loop --repeats 5

The network is NCSNv2's at 3 x 32 x 32 and width 128; bare calls and samplers run in turn, in one process, on
one thread. CPU seconds per network evaluation.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch

from benchmarks.machine import describe
from pipeline.ncsn.networks import make_network
from pipeline.ncsn.nfe import CountEvaluations
from pipeline.ncsn.rng import SampleNoise
from pipeline.ncsn.sampler import Ladder, Sampler

SHAPE, LADDER = (3, 32, 32), Ladder(1.0, 0.01, 6)
SAMPLERS = {
    "langevin": Sampler.langevin(LADDER, step_size=2e-5, steps_per_level=1),
    "consistent": Sampler("consistent", LADDER, {"step_size": 1e-4}),
    "ancestral + Langevin": Sampler(
        "predictor_corrector", LADDER, {"predictor": "ancestral", "corrector_steps": 1, "snr": 0.16}
    ),
    "heun": Sampler("heun", LADDER, {}),
    "dpm_solver": Sampler("dpm_solver", LADDER, {}),
}


def seconds(work: Callable[[], int]) -> float:
    """CPU seconds for each network evaluation of `work`, which returns their number."""
    start = time.process_time()
    evaluations = work()
    return (time.process_time() - start) / evaluations


def rows(batch: int, repeats: int) -> list[str]:
    """A line for the bare calls and one for each sampler."""
    torch.manual_seed(0)
    network = make_network("ncsnv2", channels=3, image_size=32, width=128, sigmas=LADDER.sigmas())
    network.requires_grad_(False)
    x, sigma = torch.rand(batch, *SHAPE), torch.ones(())

    def bare() -> int:
        for _ in range(LADDER.num_levels):
            network(x, sigma)
        return LADDER.num_levels

    def sampled(sampler: Sampler) -> int:
        counted = CountEvaluations(network)
        sampler.sample(counted, SampleNoise(0, range(batch), SHAPE), denoise=True)
        return counted.nfe

    works: dict[str, Callable[[], int]] = {"bare calls": bare}
    works |= {name: (lambda s=sampler: sampled(s)) for name, sampler in SAMPLERS.items()}
    bare()
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            taken[name].append(seconds(work))
    base = statistics.median(taken["bare calls"])
    medians = {name: statistics.median(values) for name, values in taken.items()}
    return [f"| {name} | {value:.4f} | {value / base - 1:+.1%} |" for name, value in medians.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    sys.stdout.write(f"{describe()}\n\n| sampler | CPU s an evaluation | over bare calls |\n| :-- | --: | --: |\n")
    sys.stdout.write("\n".join(rows(given.batch, given.repeats)) + "\n")


if __name__ == "__main__":
    main()
