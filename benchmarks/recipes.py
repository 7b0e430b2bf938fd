"""FID of recipes at equal CPU time, on the digits: what a network learns in a minute of one thread.

    python -m benchmarks.recipes [--seconds 60] [--only NAME ...]

Needs `dvc repro features`. Each recipe of `RECIPES` is laid over `BASE`, and trained for as many steps as the time has
room for. Its samples are drawn by annealed Langevin dynamics with the step of technique 4, and by DPM-Solver++(2M) of
6 evaluations that begins at the data's moments. Seeds of training and samples are none that a report uses.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.data.dataset import open_dataset
from pipeline.generate.draw import draw, single_threaded
from pipeline.metrics import features, fid
from pipeline.ncsn.kinds import make
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.networks import make_network
from pipeline.ncsn.prior import Law
from pipeline.training.loop import train
from pipeline.training.task import Task, network_arguments

ARTIFACTS = Path("artifacts")
SEED, SAMPLES = 9000, 720
Recipe = dict[str, Any]


def adam(lr: float, beta: float = 0.99) -> Recipe:
    """Adam at a rate that decays to nothing; a moving average of the last fiftieth of the training."""
    optimizer = {"kind": "adam", "lr": lr, "betas": [0.9, beta], "eps": 1e-8}
    return {"optimizer": optimizer, "schedule": "cosine", "average": 0.02}


BASE: Recipe = {
    "network": {"kind": "ncsnv2", "width": 16},
    "loss": {"kind": "levels"},
    "optimizer": {"kind": "adam", "lr": 2e-3, "betas": [0.9, 0.999], "eps": 1e-8},
    "schedule": "constant",
    "average": 0.3,
    "range": (4.8, 0.01, 21),
    "batch": 64,
}
UNET: Recipe = {
    "network": {"kind": "unet", "width": 256},
    "loss": {"kind": "edm", "p_mean": -1.89, "p_std": 1.2},
    "range": (40.0, 0.001, 18),
}
RECIPES: Mapping[str, Recipe] = {
    "constant rate 2e-3": {},
    "batch 32": {"batch": 32},
    "batch 128": {"batch": 128},
    "width 8": {"network": {"kind": "ncsnv2", "width": 8}},
    "width 24": {"network": {"kind": "ncsnv2", "width": 24}},
    "decaying rate 8e-3": adam(8e-3),
    "decaying rate 16e-3": adam(16e-3),
    "decaying rate 8e-3, batch 32": adam(8e-3) | {"batch": 32},
    "to 0.06": adam(8e-3) | {"range": (4.8, 0.06, 15)},
    "to 0.16": adam(8e-3) | {"range": (4.8, 0.16, 12)},
    "1.2 to 0.1": adam(8e-3) | {"range": (1.2, 0.1, 8)},
    "0.8 to 0.15": adam(8e-3) | {"range": (0.8, 0.15, 6)},
    "0.6 to 0.2": adam(8e-3) | {"range": (0.6, 0.2, 6)},
    "ncsn, 1 to 0.1": adam(8e-3) | {"network": {"kind": "ncsn", "width": 16}, "range": (1.0, 0.1, 10)},
    "unet, constant rate 2e-3": UNET,
    "unet, decaying rate 4e-3": UNET | adam(4e-3),
    "unet, decaying rate 1e-2": UNET | adam(1e-2),
}


def task(recipe: Recipe, steps: int, shape: tuple[int, ...]) -> Task:
    """The training of a recipe."""
    cosine = {"kind": "cosine", "warmup_steps": steps // 25, "final": 0.0}
    ladder = Ladder(*recipe["range"])
    return Task(
        network=network_arguments(make("networks", recipe["network"]), ladder.sigmas(), shape),  # type: ignore[arg-type]
        loss=make("losses", recipe["loss"]),
        optimizer=make("optimizers", recipe["optimizer"]),
        schedule=make("schedules", cosine if recipe["schedule"] == "cosine" else {"kind": "constant"}),
        ema=make("averages", {"kind": "exponential", "rate": max(0.0, 1 - 1 / (recipe["average"] * steps))}),
        dequantise=False,
        flip=False,
        steps=steps,
        batch_size=recipe["batch"],
        micro_batches=1,
        checkpoint_every=steps,
        log_every=steps,
        seed=SEED,
        data_sha256="",
    )


def step_seconds(recipe: Recipe, images: np.ndarray) -> float:
    """CPU seconds of a step."""
    events, times = train(task(recipe, 1000, images.shape[1:]), images), []
    for _ in range(20):
        start = time.process_time()
        next(events)
        times.append(time.process_time() - start)
    return statistics.median(times[5:])


def fids(network: torch.nn.Module, recipe: Recipe, images: np.ndarray) -> list[str]:
    """FID with Langevin dynamics, where the network has levels, and with the solver, where it takes any."""
    space, reference = features.load_space(ARTIFACTS / "features"), fid.load_moments(ARTIFACTS / "features", "train")
    ladder, found = Ladder(*recipe["range"]), []
    ends = {"sigma_max": min(3.0, ladder.sigma_max), "sigma_min": max(0.02, ladder.sigma_min)}
    langevin = {"kind": "langevin", "step_size": "analytic", "steps_per_level": 5}
    solver = {"kind": "dpm_solver", "num_levels": 6, "rho": 7.0, "start": "data", **ends}
    suits = (recipe["loss"]["kind"] == "levels", recipe["network"]["kind"] != "ncsn")
    for sampler, suited in zip((langevin, solver), suits, strict=True):
        if suited:
            settled = make("samplers", sampler).on(ladder)
            how: dict[str, Any] = {"seed": SEED, "indices": range(SAMPLES), "shape": images.shape[1:]}
            drawn = draw(network, settled, law=Law.of(images), **how)
            found.append(f"{fid.distance(fid.moments(space.features(drawn.denoised)), reference):.1f}")
        else:
            found.append("–")
    return found


def row(name: str, seconds: float, images: np.ndarray) -> str:
    """A line of the table."""
    recipe = {**BASE, **RECIPES[name]}
    steps = round(seconds / step_seconds(recipe, images))
    start, losses = time.process_time(), []
    for event in train(task(recipe, steps, images.shape[1:]), images):
        losses.append(event.loss)
    network = make_network(**event.state.task.network).eval().requires_grad_(False)
    event.state.ema.copy_to(network)
    spent, loss = time.process_time() - start, statistics.mean(losses[-50:])
    return f"| {name} | {steps:,} | {spent:.0f} | {loss:.2f} | {' | '.join(fids(network, recipe, images))} |\n"


def main() -> None:
    """Train in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--only", nargs="+", default=list(RECIPES), choices=list(RECIPES), metavar="NAME")
    given = parser.parse_args()
    single_threaded()
    images = open_dataset(ARTIFACTS / "data").split("train")
    sys.stdout.write(
        "| recipe | steps | CPU s | loss | FID, Langevin dynamics | FID, solver |\n|---" + "|--:" * 5 + "|\n"
    )
    for name in given.only:
        sys.stdout.write(row(name, given.seconds, images))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
