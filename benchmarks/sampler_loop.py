"""What the loop of a sampler costs beside its network calls: goal, at most 3 per cent, 5 at 8 x 8.

    python -m benchmarks.sampler_loop --repeats 5
    python -m benchmarks.sampler_loop --repeats 21 --kind ncsnv2 --channels 1 --size 8 --width 16 --batch 90

Bare calls and samplers run in turn, in one process, on one thread, noise drawn and all. CPU seconds per network
evaluation, the median of the repeats. Small networks are also told by the time of a network that costs nothing,
next to which the loop's own seconds are not lost in the noise of the clock.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.machine import describe
from pipeline.ncsn.networks import make_network
from pipeline.ncsn.nfe import CountEvaluations
from pipeline.ncsn.rng import SampleNoise
from pipeline.ncsn.sampler import Ladder, Sampler
from pipeline.ncsn.score import Score

LADDER = Ladder(1.0, 0.01, 6)
SAMPLERS = {
    "langevin": Sampler.langevin(LADDER, step_size=2e-5, steps_per_level=1),
    "consistent": Sampler("consistent", LADDER, {"step_size": 1e-4}),
    "ancestral + Langevin": Sampler(
        "predictor_corrector", LADDER, {"predictor": "ancestral", "corrector_steps": 1, "snr": 0.16}
    ),
    "heun": Sampler("heun", LADDER, {}),
    "stochastic_heun": Sampler("stochastic_heun", LADDER, {"churn": 2.0}),
    "euler": Sampler("euler", LADDER, {}),
    "dpm_solver": Sampler("dpm_solver", LADDER, {}),
}


def seconds(work: Callable[[], int]) -> float:
    """CPU seconds for each network evaluation of `work`, which returns their number."""
    start = time.process_time()
    evaluations = work()
    return (time.process_time() - start) / evaluations


def rows(network: nn.Module, shape: tuple[int, int, int], batch: int, repeats: int) -> list[str]:
    """A line for the bare calls and one for each sampler."""
    x, sigma, nothing = torch.rand(batch, *shape), torch.ones(()), torch.zeros(batch, *shape)

    def bare() -> int:
        for _ in range(LADDER.num_levels):
            network(x, sigma)
        return LADDER.num_levels

    def sampled(sampler: Sampler, score: Score) -> int:
        counted = CountEvaluations(score)
        sampler.sample(counted, SampleNoise(0, range(batch), shape), denoise=True)
        return counted.nfe

    works: dict[str, Callable[[], int]] = {"bare calls": bare}
    for name, sampler in SAMPLERS.items():
        works[name] = lambda s=sampler: sampled(s, network)  # type: ignore[misc]
        works[f"{name} alone"] = lambda s=sampler: sampled(s, lambda x, sigma: nothing)  # type: ignore[misc]
    bare()
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            taken[name].append(seconds(work))
    medians = {name: statistics.median(values) for name, values in taken.items()}
    base = medians["bare calls"]
    return [_row(name, medians[name], medians[f"{name} alone"], base) for name in SAMPLERS] + [
        f"| bare calls | {base * 1e6:,.0f} | | | |"
    ]


def _row(name: str, value: float, alone: float, base: float) -> str:
    return f"| {name} | {value * 1e6:,.0f} | {value / base - 1:+.1%} | {alone * 1e6:,.0f} | {alone / base:.1%} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--kind", default="ncsnv2")
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--width", type=int, default=128)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = make_network(
        given.kind, channels=given.channels, image_size=given.size, width=given.width, sigmas=LADDER.sigmas()
    )
    network.requires_grad_(False)
    shape = (given.channels, given.size, given.size)
    titles = ["sampler", "CPU us an evaluation", "over bare calls", "without a network, us", "of bare calls"]
    sys.stdout.write(f"{describe()}\n\n| {' | '.join(titles)} |\n| :-- |{' --: |' * 4}\n")
    sys.stdout.write("\n".join(rows(network, shape, given.batch, given.repeats)) + "\n")


if __name__ == "__main__":
    main()
