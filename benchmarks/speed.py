"""The papers' networks at their own size: forward and training step, here against the plain way.

    python -m benchmarks.speed --repeats 5

Both ways run in turn, in one process, on the same weights, images and noise; the ratio is of the medians.
The last column compares outputs, or the loss, in norm.
"""

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.machine import describe
from benchmarks.plain import plain
from pipeline.ncsn.losses import denoising_score_matching
from pipeline.ncsn.networks import make_network
from pipeline.ncsn.noise import geometric_sigmas

Way = Callable[[], contextlib.AbstractContextManager[object]]
WAYS: dict[str, Way] = {
    "plain": plain,
    "here, float32": contextlib.nullcontext,
    "here, bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
}
SIGMAS = geometric_sigmas(1.0, 0.01, 10)


def forward(network: nn.Module, x: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """A network evaluation, as a sampler needs it."""
    with torch.no_grad():
        out: Tensor = network(x + sigma.view(-1, 1, 1, 1) * noise, sigma)
    return out.float()


def step(network: nn.Module, x: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """Loss and gradients."""
    network.zero_grad()
    loss = denoising_score_matching(network, x, sigma, noise).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def measure(kind: str, batch: int, repeats: int) -> list[str]:
    """Rows of the table for one network of 3 x 32 x 32 pixels and width 128."""
    torch.manual_seed(0)
    network = make_network(kind, channels=3, image_size=32, width=128, sigmas=SIGMAS)
    inputs = torch.rand(batch, 3, 32, 32), SIGMAS[torch.arange(batch) % 10], torch.randn(batch, 3, 32, 32)
    rows = []
    for work in (forward, step):
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        values: dict[str, Tensor] = {}
        for _ in range(repeats + 1):
            for way, context in WAYS.items():
                with context():
                    start = time.process_time()
                    values[way] = work(network, *inputs)
                    seconds[way].append(time.process_time() - start)
        plainly = statistics.median(seconds["plain"][1:])
        for way in WAYS:
            median = statistics.median(seconds[way][1:])
            change = float((values[way] - values["plain"]).norm() / values["plain"].norm())
            rows.append(f"| {kind} | {work.__name__} | {way} | {median:.2f} | {plainly / median:.2f} | {change:.1e} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    sys.stdout.write(f"{describe()}\n\n| network | work | way | CPU s | times as fast | value differs by |\n")
    sys.stdout.write("| :-- | :-- | :-- | --: | --: | --: |\n")
    for kind in ("ncsn", "ncsnv2"):
        for row in measure(kind, given.batch, given.repeats):
            sys.stdout.write(row + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
