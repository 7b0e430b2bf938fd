"""Peak memory and time of generating and scoring N samples of 3 x 32 x 32: goal, 1.5 GB a process at 50,000.

    python -m benchmarks.scale --num-samples 50000

The score is that of a Gaussian in a module of one number, so that the plumbing is measured: drawing noise,
shards on disk, features, moments, KID, precision and recall. Each step runs in a process of its own, as the
stages do; what is told is the kernel's own peak of it (VmHWM), pages of mapped files included.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from benchmarks.machine import describe
from benchmarks.memory import high_water

SHAPE = (3, 32, 32)


class Gaussian(torch.nn.Module):
    """The score of N(1/2, variance I) at noise sigma."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("variance", torch.tensor(0.06))

    def forward(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return (0.5 - x) / (self.variance + sigma**2)


class Projection:
    """An evaluator whose features are a random projection of the pixels: cheap, and wide as Inception's."""

    name, device = "random projection", "cpu"

    def __init__(self, dim: int) -> None:
        rng = np.random.default_rng(0)
        self.matrix = rng.standard_normal((int(np.prod(SHAPE)), dim), dtype=np.float32) / 50

    def on(self, device: str) -> "Projection":
        """Itself: it is for CPUs."""
        return self

    def features(self, images: np.ndarray) -> np.ndarray:
        """Images uint8 (N, C, H, W) -> (N, D), 500 at a time."""
        rows = [images[k : k + 500].reshape(-1, len(self.matrix)) for k in range(0, len(images), 500)]
        return np.concatenate([row.astype(np.float32) / 255 @ self.matrix for row in rows])

    def both(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The features, and (N, 10) of row sum 1."""
        found = self.features(images)
        return found, torch.from_numpy(found[:, :10]).softmax(dim=1).numpy()


def generated(place: Path, given: argparse.Namespace) -> None:
    """Draw the samples into `place`, a stage's way."""
    from pipeline.generate.generate import generate
    from pipeline.ncsn.sampler import Ladder, Sampler

    made = generate(
        Gaussian(), Sampler("euler", Ladder(1.0, 0.01, 4), {}), shape=SHAPE, num_samples=given.num_samples,
        shard_size=500, precision="float32", compile=False, seed=0, workers=given.workers,
        storage=place,
    )  # fmt: skip
    np.save(place / "samples.npy", made.denoised)
    made.discard()


def moments(place: Path, given: argparse.Namespace) -> None:
    """Mean and covariance of the features, which are not kept."""
    from pipeline.generate.score import Scorer

    Scorer(Projection(given.dim), place).moments(np.load(place / "samples.npy", mmap_mode="r"))


def scored(place: Path, given: argparse.Namespace) -> None:
    """Every number of the table, the samples against themselves turned upside down."""
    from pipeline.generate.score import Scorer
    from pipeline.metrics.evaluate_row import evaluate
    from pipeline.metrics.inputs import Described, ImageInputs

    samples, scorer = np.load(place / "samples.npy", mmap_mode="r"), Scorer(Projection(given.dim), place)
    sides = (Described.by(scorer, samples), Described.by(scorer, samples[::-1]))
    sizes = {"nearest_k": 5, "kid_subsets": 100, "kid_subset_size": 1000, "splits": 10, "fid_points": 10}
    evaluate(ImageInputs(*sides, SimpleNamespace(**sizes, seed=0)))


def block(place: Path, given: argparse.Namespace) -> None:
    """`evaluate` but for all blocks of distances after the first, than which none takes more memory."""
    from pipeline.generate.score import Scorer
    from pipeline.metrics import fid_infinity, kid
    from pipeline.metrics.distances import Pair
    from pipeline.metrics.fid import standard_error

    samples = np.load(place / "samples.npy", mmap_mode="r")
    scorer = Scorer(Projection(given.dim), place)
    features, real = scorer.features(samples), scorer.features(samples[::-1])
    moments = scorer.moments(samples[::-1])
    stderr = standard_error(features, moments)
    fid_infinity.fid_infinity(features, moments, points=3, stderr=stderr, seed=0)
    kid.kernel_distance(features, real, subsets=2, subset_size=1000, seed=0)
    pair = Pair(features, real)
    rows, columns, lower = next(pair.tiles())
    pair.inside(rows, columns, lower, np.ones((len(lower), 1)))


STEPS: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "generate": generated,
    "moments": moments,
    "block": block,
    "evaluate": scored,
}


def child(step: str, place: Path, given: argparse.Namespace) -> None:
    """One step, and its cost as JSON; imports are counted, as in a stage."""
    torch.set_num_threads(1)
    STEPS[step](place, given)
    sys.stdout.write(json.dumps({"peak": high_water(os.getpid()), "cpu": time.process_time()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--num-samples", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=2048, help="features of an image; Inception's are 2048")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        return child(given.child[0], Path(given.child[1]), given)
    sys.stdout.write(f"{describe()}\n\n| step | N | features | peak MB | CPU s | s |\n| :-- |{' --: |' * 5}\n")
    with tempfile.TemporaryDirectory() as place:
        for step in given.steps:
            begin = time.perf_counter()
            command = [sys.executable, "-m", "benchmarks.scale", *sys.argv[1:], "--child", step, place]
            cost = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            seconds = time.perf_counter() - begin
            sys.stdout.write(
                f"| {step} | {given.num_samples:,} | {given.dim:,} | {cost['peak'] / 1e6:,.0f} | "
                f"{cost['cpu']:,.0f} | {seconds:,.0f} |\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
