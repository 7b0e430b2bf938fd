"""Keep the classifier of a run as a file that other runs use: `python -m pipeline.commands.pin_evaluator FILE`.

Run it after `dvc repro features` with features.weights null. It prints the lines for params.yaml. FIDs of runs
on the same file are distances in one feature space, on any machine.
"""

import argparse
import sys
from pathlib import Path

from pipeline import environment
from pipeline.data.dataset import open_dataset
from pipeline.metrics.features import _pinned, load_space
from pipeline.metrics.features.classifier import ClassifierSpace
from pipeline.ncsn.errors import UserError
from pipeline.params import load


def pin(path: Path, root: Path) -> str:
    """Write the classifier of the checkout `root` to `path`; returns the file's SHA-256.

    Raises:
        UserError: the run has no feature space, or one that is no classifier.
    """
    params, folder = load(root / "params.yaml"), root / "artifacts/features"
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} is missing: run `dvc repro features` first.")
    space = load_space(folder)
    if type(space) is not ClassifierSpace:
        raise UserError("features.kind is no classifier: other feature spaces cannot be pinned.")
    made = {
        "command": "dvc repro features; python -m pipeline.commands.pin_evaluator",
        "settings": f"preset {params.preset}, {params.features}",
        "evaluator": space.name,
        "versions": environment.versions(),
        "hardware": environment.hardware(),
    }
    images = open_dataset(root / "artifacts/data").split("train")
    return _pinned.write(path, space.network.state_dict(), space.shape, images, made)


def main(arguments: list[str] | None = None, root: Path = Path()) -> int:
    """Pin the run's classifier; returns the exit code, 2 for a mistake of the user's."""
    about = str(__doc__).partition(": ")[0]
    parser = argparse.ArgumentParser("python -m pipeline.commands.pin_evaluator", description=about)
    parser.add_argument("file", metavar="FILE", type=Path, help="such as conf/evaluators/digits.safetensors")
    given = parser.parse_args(arguments)
    try:
        sha256 = pin(given.file, root)
    except (UserError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"features:\n  weights: {given.file}\n  sha256: {sha256}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
