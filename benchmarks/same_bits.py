"""Whether two finished runs have the same bits: `python -m benchmarks.same_bits OLD_ARTIFACTS NEW_ARTIFACTS`.

It compares networks, curves, samples, evaluations, searches and the toy numbers by SHA-256. The old run may be one of
before rows and networks were apart, whose folders have other names. The exit code is 1 where one differs.
"""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

BEFORE = {"tune_noise": "noise", "tune_sampler": "sampler", "features": "reference"}
"""Folders under their names of before."""
PATTERNS = (
    "data/images.npy",
    "features/classifier.safetensors",
    "models/*/*.safetensors",
    "curves/*.csv",
    "samples/*/*.npy",
    "evaluation/*.json",
    "tune_noise/*.csv",
    "tune_sampler/*.csv",
    "frontier/*.csv",
    "toy/numbers.json",
)
NOT_OLD = ("losses.safetensors",)
"""Files that checkpoints of before lack."""


def digest(path: Path) -> str | None:
    """SHA-256 of a file, None where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def pairs(old: Path, new: Path) -> Iterator[tuple[str, Path, Path]]:
    """Each file of the new run by its name, with the old one's path and its own."""
    for path in sorted(path for pattern in PATTERNS for path in new.glob(pattern) if path.name not in NOT_OLD):
        place = path.relative_to(new)
        folder, *rest = place.parts
        there = old / place
        yield place.as_posix(), there if there.exists() else old.joinpath(BEFORE.get(folder, folder), *rest), path


def main(old: Path, new: Path) -> int:
    """Print what differs, and the counts; returns the exit code."""
    compared = [(name, digest(before) == digest(after)) for name, before, after in pairs(old, new)]
    differ = [name for name, same in compared if not same]
    sys.stdout.writelines(f"differs: {name}\n" for name in differ)
    sys.stdout.write(f"{len(compared) - len(differ)} of {len(compared)} files have the same bits\n")
    return int(bool(differ) or not compared)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
