"""What data cost: memory and time of preparing N images, and the loader's share of a training step.

    python -m benchmarks.data prepare --counts 60000 600000
    python -m benchmarks.data loader --presets digits cifar10 --batch 8

Times are of the process's own CPU, so that a busy machine changes them little; waiting for a disk is not in
them.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from ruamel.yaml import YAML

from benchmarks.machine import describe
from pipeline.commands.preset import compose
from pipeline.ncsn.noise import geometric_sigmas
from pipeline.params import Params, parse
from pipeline.training.batches import micro_batches
from pipeline.training.loop import train
from pipeline.training.task import Task

PREPARE = """
import sys, time
from pathlib import Path
from pipeline.data.preparation import prepare
source = sys.argv[1] + "/in.npy"
prepare(Path(sys.argv[1]) / "out", name="npz", source=source, image_size=32, num_held_out=1000, seed=0)
print(time.process_time(), Path("/proc/self/status").read_text())
"""
SIGMAS = geometric_sigmas(50.0, 0.01, 232)
IMAGES = {"digits": 1437, "fashion_mnist": 60_000, "mnist": 60_000, "cifar10": 50_000}


def prepared(count: int) -> str:
    """A row of the table: preparing `count` images of 3 x 32 x 32 in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        draw = np.random.default_rng(0)
        with (Path(folder) / "in.npy").open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (count, 3, 32, 32)}
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, count, 1000):
                file.write(draw.bytes(min(1000, count - start) * 3072))
        start_at = time.perf_counter()
        command = [sys.executable, "-c", PREPARE, folder]
        done = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        wall = time.perf_counter() - start_at
    cpu, peak = float(done.split()[0]), int(re.findall(r"VmHWM:\s+(\d+)", done)[0]) / 1024
    each = f"{cpu:.2f} | {cpu / count * 1e6:.1f}"
    return f"| {count:,} | {count * 3072 / 1e6:,.0f} | {peak:.1f} | {each} | {wall:.1f} |"


def loaded(preset: str, batch: int | None, steps: int) -> str:
    """A row of the table: a preset's NCSNv2, its loader alone and its whole training step."""
    params = parse(YAML(typ="safe").load(compose(Path("conf"), preset)), preset)
    task, images = _task(params, batch), _images(params)
    alone: list[float] = []
    for step in range(steps + 1):
        start = time.process_time()
        micro_batches(task, images, step, range(task.micro_batches), torch.device("cpu"))
        alone.append(time.process_time() - start)
    whole: list[float] = []
    start = time.process_time()
    for _ in train(task, images):
        whole.append(time.process_time() - start)
        start = time.process_time()
    loader, step_ = statistics.median(alone[1:]), statistics.median(whole[1:])
    what = f"{preset} | {'x'.join(map(str, images.shape[1:]))} | {task.batch_size}"
    return f"| {what} | {loader * 1e3:.2f} | {step_ * 1e3:.1f} | {loader / step_:.2%} |"


def _task(params: Params, batch: int | None) -> Task:
    short = {"steps": 4, "log_every": 4, "checkpoint_every": 4}
    parts = {"batch_size": batch, "micro_batches": 1} if batch else {}
    train, shape = params.train.model_copy(update={**short, **parts}), _images(params, 1).shape[1:]
    recipe = params.recipes["ncsnv2"].model_copy(update={"steps": None})
    return Task.build(recipe, train, sigmas=SIGMAS, image_shape=shape, data_sha256="")


def _images(params: Params, count: int = 0) -> np.ndarray:
    channels = 3 if params.data.name in ("cifar10", "celeba") else 1
    size = params.data.image_size
    shape = (count or IMAGES[params.data.name], channels, size, size)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare")
    prepare.add_argument("--counts", type=int, nargs="+", default=[60_000, 600_000])
    loader = commands.add_parser("loader")
    loader.add_argument("--presets", nargs="+", default=["digits", "cifar10"], choices=IMAGES)
    loader.add_argument("--batch", type=int, help="images in a batch, by default the preset's")
    loader.add_argument("--steps", type=int, default=20, help="batches that the loader's time is the median of")
    given = parser.parse_args()
    sys.stdout.write(f"{describe()}\n\n")
    if given.command == "prepare":
        sys.stdout.write(
            "| images | MB of pixels | peak MB | CPU s | CPU us an image | s |\n|--:|--:|--:|--:|--:|--:|\n"
        )
        rows = (prepared(count) for count in given.counts)
    else:
        torch.set_num_threads(1)
        sys.stdout.write("| preset | image | batch | loader ms | step ms | share |\n|:--|:--|--:|--:|--:|--:|\n")
        rows = (loaded(preset, given.batch, given.steps) for preset in given.presets)
    for row in rows:
        sys.stdout.write(row + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
