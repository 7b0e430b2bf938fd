"""Whether `tuned` is the same noise on different machines, by what is done with a tie of the search.

    python -m benchmarks.ties --seeds 5

Runs `tune_noise` of the default in a clone of HEAD, for each seed under both settings of `compute.kernels`:
they round differently, as two kinds of processor do. The searches are run once; the rules differ in what they
make of the same best.yaml: `found` takes the search's winner, `analytic` gives way to the analytic choice that
the winner does not beat, `start` to the best of all starting points that it does not beat.
"""

import argparse
import sys
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.pipelines import check, clone, environment
from pipeline.files import read_yaml

KERNELS = ("native", "portable")
RANGE = ("sigma_max", "sigma_min", "num_levels")
Best = Mapping[str, Any]


def search(folder: Path, env: dict[str, str], seed: int, kernels: str) -> Best:
    """best.yaml of one search."""
    path = folder / "params.yaml"
    text = check(["git", "show", "HEAD:params.yaml"], folder, env)
    for old, new in (("\n  seed: 1000\n", f"\n  seed: {seed}\n"), ("kernels: native", f"kernels: {kernels}")):
        if text.count(old) != 1:
            sys.exit(f"error: {old.strip()!r} is not once in params.yaml of HEAD")
        text = text.replace(old, new)
    path.write_text(text.replace("tracking:\n  enabled: true", "tracking:\n  enabled: false"))
    check([sys.executable, "-m", "stages.tune_noise"], folder, env)
    return dict(read_yaml(folder / "artifacts/tune_noise/best.yaml"))


def starts(best: Best) -> list[str]:
    """The starting points of a search, the analytic choice first."""
    return [name for name in best if name not in ("tuned", "verdict")]


def chosen(best: Best, rule: str) -> str:
    """Which of the lines of best.yaml a rule takes."""
    among = {"found": [], "analytic": ["analytic"], "start": starts(best)}[rule]
    return next((name for name in best["verdict"]["no_better_than"] if name in among), "tuned")


def taken(best: Best, rule: str) -> tuple[float, ...]:
    """The range that a rule takes."""
    return tuple(best[chosen(best, rule)][key] for key in RANGE)


def _line(seed: int, kernels: str, best: Best) -> str:
    tuned = best["tuned"]
    found = f"{tuned['trial']} | {tuned['sigma_max']:.3f}, {tuned['sigma_min']:.4f}, {tuned['num_levels']}"
    ratios = [f"{tuned['fid_again'] / best[name]['fid_again']:.3f}" for name in starts(best)]
    limit = f"{best['verdict']['equal_up_to']:.3f}"
    return " | ".join([f"| {seed}", kernels, found, *ratios, limit, chosen(best, "start")]) + " |\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    found: dict[tuple[int, str], Best] = {}
    seeds = range(1000, 1000 + 100 * given.seeds, 100)  # a search takes some seeds from its own on
    with tempfile.TemporaryDirectory(prefix="ncsn-benchmark-") as temporary:
        env = environment(Path(temporary), uuid.uuid4().hex)
        folder = clone(Path(temporary), None, env)
        check(["dvc", "repro", "features"], folder, env)
        for seed in seeds:
            for kernels in KERNELS:
                best = found[seed, kernels] = search(folder, env, seed, kernels)
                sys.stdout.write(_line(seed, kernels, best))
                sys.stdout.flush()
    for rule in ("found", "analytic", "start"):
        ranges = {key: taken(best, rule) for key, best in found.items()}
        count = sum(ranges[seed, "native"] == ranges[seed, "portable"] for seed in seeds)
        sys.stdout.write(
            f"{rule}: the same range under both settings for {count} of {given.seeds} seeds, "
            f"{len(set(ranges.values()))} ranges in all\n"
        )


if __name__ == "__main__":
    main()
