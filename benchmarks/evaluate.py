"""Evaluation of N samples by an older commit and by this tree: CPU seconds, peak memory and the numbers of both.

    python -m benchmarks.evaluate --samples 10000 --dims 64 2048
    python -m benchmarks.evaluate --samples 50000 --dims 2048 --steps table

`table` is every number of the table but for bits per dimension; `features` and `pixels` are the nearest training
images of each sample. Each step of either side is a process of its own on one thread, both read the same files,
and they take turns. What is told is the least CPU time and the kernel's own peak of memory (VmHWM).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {"nearest_k": 5, "kid_subsets": 100, "kid_subset_size": 1000, "splits": 10, "fid_points": 10, "seed": 0}
CLUSTERS, LATENT, SHAPE = 10, 64, (3, 32, 32)
Cost = dict[str, Any]
"""A child's answer: cpu, peak, numbers."""


def write(place: Path, samples: int, dim: int) -> None:
    """Samples and training images of ten clusters, their features, never negative, and probabilities."""
    law = np.random.default_rng(0)
    centres = 2 * law.standard_normal((CLUSTERS, LATENT), dtype=np.float32)
    to_features, to_pixels = (law.standard_normal((LATENT, n), dtype=np.float32) for n in (dim, int(np.prod(SHAPE))))
    for name, seed in (("samples", 1), ("train", 2)):
        rng = np.random.default_rng(seed)
        latent = centres[rng.integers(0, CLUSTERS, samples)] + rng.standard_normal((samples, LATENT), dtype=np.float32)
        noise = rng.standard_normal((samples, dim), dtype=np.float32)
        np.save(place / f"{name}_features.npy", np.maximum(latent @ to_features / 8 + noise, 0))
        pixels = (128 + 5 * (latent @ to_pixels)).clip(0, 255).astype(np.uint8)
        np.save(place / f"{name}_pixels.npy", pixels.reshape(-1, *SHAPE))
        logits = np.exp(latent @ centres.T / 8)
        np.save(place / f"{name}_probabilities.npy", logits / logits.sum(axis=1, keepdims=True))


def read(place: Path, name: str, what: str) -> Any:
    """One of the arrays, mapped."""
    return np.load(place / f"{name}_{what}.npy", mmap_mode="r")


def table(place: Path) -> dict[str, Any]:
    """The samples against the training images."""
    sides = [
        [read(place, name, what) for what in ("pixels", "features", "probabilities")] for name in ("samples", "train")
    ]
    try:
        from pipeline.metrics.evaluate_row import evaluate
        from pipeline.metrics.inputs import Described, ImageInputs
    except ImportError:  # as it was at 44289ff
        from pipeline.metrics import evaluate as before

        return dict(before.evaluate(*(before.Described(*side) for side in sides), **SETTINGS))
    settings: Any = SimpleNamespace(**SETTINGS)
    return evaluate(ImageInputs(*(Described(*side) for side in sides), settings))


def nearest(place: Path, what: str) -> dict[str, Any]:
    """Sums of the distances to the nearest training images, and of their indices times the samples' own."""
    try:
        from pipeline.metrics.neighbours import nearest
    except ImportError:
        from pipeline.metrics.memorisation import nearest
    distances, index = nearest(read(place, "samples", what), read(place, "train", what), k=1)
    return {"distances": float(distances.sum()), "index": int(index[:, 0] @ np.arange(len(index)))}


STEPS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "table": table,
    "features": lambda place: nearest(place, "features"),
    "pixels": lambda place: nearest(place, "pixels"),
}


def child(step: str, place: Path) -> None:
    """A step by whichever tree Python finds, and its cost, imports of torch left out."""
    import time

    import torch

    from benchmarks.memory import high_water

    torch.set_num_threads(1)
    begin = time.process_time()
    numbers = STEPS[step](place)
    cost = {"cpu": time.process_time() - begin, "peak": high_water(os.getpid()), "numbers": numbers}
    sys.stdout.write(json.dumps(cost))


def measure(tree: Path, step: str, place: Path) -> Cost:
    """A child's cost in a tree; one thread for BLAS of NumPy too."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, "-P", __file__, "--child", step, str(place)]
    environment = {**os.environ, **threads, "PYTHONPATH": str(tree)}
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment, cwd=tree)
    cost: Cost = json.loads(found.stdout)
    return cost


def differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    """The names of numbers that differ, and by how much in relation."""
    apart = {k: abs(v - new[k]) / (abs(v) or 1) for k, v in old.items() if isinstance(v, int | float)}
    return ", ".join(f"{k} {value:.0e}" for k, value in apart.items() if value) or "none"


def lines(before: Path, given: argparse.Namespace) -> Iterator[str]:
    """A row of the table for each width and step."""
    for dim in given.dims:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), given.samples, dim)
            for step in given.steps:
                turns = [
                    (measure(before, step, Path(folder)), measure(ROOT, step, Path(folder)))
                    for _ in range(given.repeats)
                ]
                (old, new) = (min(side, key=lambda cost: float(cost["cpu"])) for side in zip(*turns, strict=True))
                yield (
                    f"| {step} | {given.samples:,} | {dim:,} | {old['cpu']:,.1f} | {new['cpu']:,.1f} | "
                    f"{new['cpu'] / old['cpu']:.2f} | {old['peak'] / 1e6:,.0f} | {new['peak'] / 1e6:,.0f} | "
                    f"{differences(old['numbers'], new['numbers'])} |\n"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--dims", type=int, nargs="+", default=[64, 2048])
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--before", default="44289ff", help="the older commit")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        return child(given.child[0], Path(given.child[1]))
    from benchmarks.machine import describe

    titles = ["step", "N", "features", "CPU s before", "now", "ratio", "peak MB before", "now", "numbers that differ"]
    sys.stdout.write(f"{describe()}\n\n| {' | '.join(titles)} |\n| :-- |{' --: |' * 7} :-- |\n")
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder) / "before"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(before), given.before], check=True)
        try:
            for line in lines(before, given):
                sys.stdout.write(line)
                sys.stdout.flush()
        finally:
            subprocess.run([*git, "remove", "--force", str(before)], check=True)


if __name__ == "__main__":
    main()
