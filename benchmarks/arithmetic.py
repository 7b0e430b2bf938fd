"""A training step and an evaluation of each network, in CPU seconds of one thread, against an older commit.

    python -m benchmarks.arithmetic [--old COMMIT] [--rounds N]

Both trees run in turns, each in a process of its own, on the same weights, images and noise. A step is the loss and
its gradients, an evaluation a call without one. The numbers are each tree's fastest round; losses are compared too.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.machine import describe
from benchmarks.startup import OLD, ROOT, work_tree

CASES = {
    "ncsnv2, 8 x 8, width 16": ("ncsnv2", 16, 1, 8, 64),
    "ncsn, 8 x 8, width 16": ("ncsn", 16, 1, 8, 64),
    "unet, 8 x 8, width 256": ("unet", 256, 1, 8, 64),
    "ncsnv2, 28 x 28, width 12": ("ncsnv2", 12, 1, 28, 16),
    "ncsn, 28 x 28, width 12": ("ncsn", 12, 1, 28, 16),
    "unet, 28 x 28, width 32": ("unet", 32, 1, 28, 16),
    "ncsnv2, 3 x 32 x 32, width 32": ("ncsnv2", 32, 3, 32, 8),
    "ncsn, 3 x 32 x 32, width 32": ("ncsn", 32, 3, 32, 8),
}
"""By name: kind, width, channels, size in pixels, images in a batch."""
CALLS = 5
"""In a round, of each kind; the fastest counts."""
WORKER = """
import sys, time, torch
from pipeline.ncsn.networks import make_network
kind, width, channels, size, batch, calls = sys.argv[1], *map(int, sys.argv[2:])
torch.set_num_threads(1)
torch.manual_seed(0)
sigmas = torch.logspace(0, -2, 10)
network = make_network(kind, channels=channels, image_size=size, width=width, sigmas=sigmas)
for weight in network.parameters():  # some networks begin at zero
    torch.nn.init.normal_(weight, std=0.05) if weight.abs().max() == 0 else None
x, z = torch.rand(2, batch, channels, size, size)
sigma = sigmas[torch.arange(batch) % 10]
weights = list(network.parameters())

def step():
    scale = sigma.view(-1, 1, 1, 1)
    loss = (scale * network(x + scale * z, sigma) + z).square().sum() / batch
    torch.autograd.grad(loss, weights, allow_unused=True)
    return float(loss.detach())

@torch.no_grad()
def evaluation():
    return float(network(x, sigma).square().mean())

def fastest(call):
    times = []
    for _ in range(calls):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)

for call in (step, evaluation):
    call()
print(step(), flush=True)
for _ in sys.stdin:
    print(fastest(step), fastest(evaluation), flush=True)
"""


class Worker:
    """A network of one tree, measured when it is asked.

    Attributes:
        loss: of its first step.
    """

    def __init__(self, tree: Path, case: str) -> None:
        command = [sys.executable, "-c", WORKER, *map(str, CASES[case]), str(CALLS)]
        self.process = subprocess.Popen(command, cwd=tree, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        (self.loss,) = self._read()

    def measure(self) -> tuple[float, float]:
        """The CPU seconds of a step and of an evaluation."""
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        step, evaluation = self._read()
        return step, evaluation

    def _read(self) -> list[float]:
        assert self.process.stdout
        return [float(number) for number in self.process.stdout.readline().split()]


def row(case: str, old: Path, rounds: int) -> str:
    """A line of the table."""
    before, after = Worker(old, case), Worker(ROOT, case)
    turns = [(before.measure(), after.measure()) for _ in range(rounds)]
    cells = []
    for call in range(2):
        was, now = (1000 * min(turn[tree][call] for turn in turns) for tree in range(2))
        cells += [f"{was:.1f} | {now:.1f} | {was / now:.2f}"]
    for worker in (before, after):
        worker.process.communicate()
    return f"| {case} | {' | '.join(cells)} | {abs(after.loss / before.loss - 1):.0e} |\n"


def main() -> None:
    """Measure in turns, print."""
    parser = argparse.ArgumentParser("python -m benchmarks.arithmetic", description=__doc__.partition("\n")[0])
    parser.add_argument("--old", metavar="COMMIT", default=OLD, help=OLD)
    parser.add_argument("--rounds", metavar="N", type=int, default=10, help="10")
    given = parser.parse_args()
    sys.stdout.write(f"{describe()}\n\n| network | step, ms, old | new | ratio | evaluation, ms, old | new | ratio ")
    sys.stdout.write("| losses differ by |\n|---" + "|--:" * 7 + "|\n")
    with work_tree(given.old) as old:
        for case in CASES:
            sys.stdout.write(row(case, old, given.rounds))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
