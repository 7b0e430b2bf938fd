"""What is prepared, and what could be: `python -m pipeline.commands.show [data|catalogue]`."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from pipeline.data.catalogue import CATALOGUE
from pipeline.data.dataset import Dataset, Split, open_dataset
from pipeline.data.summary import Pixels, histogram, pixels
from pipeline.ncsn import noise
from pipeline.ncsn.errors import UserError
from pipeline.reporting.figures import style
from pipeline.reporting.figures.grids import GridPanel, grid

SPLITS: tuple[Split, ...] = ("train", "held_out")
ROWS = COLUMNS = 8
MOST_CLASSES = 20
"""With more, their images are not counted one by one."""


def data(opened: Dataset) -> Iterator[str]:
    """Source, counts, classes and pixel statistics of a prepared data set, line by line."""
    manifest = opened.manifest
    count, *shape = manifest["shape"]
    yield f"{manifest['name']}: {manifest['title']} ({manifest['licence']})"
    yield f"  {count:,} images of {' x '.join(map(str, shape))}, {manifest['dtype']}: {manifest['range']}"
    yield from (f"  {line}" for line in manifest["transformations"])
    yield from (f"  from {file['name']}: sha256 {file['sha256']}" for file in manifest["source"])
    yield f"  to images.npy: sha256 {opened.sha256}"
    equal = manifest["duplicates"]
    yield (
        f"  equal images: {equal['train']:,} repeat another in train, {equal['held_out']:,} in held_out; "
        f"{equal['held_out_in_train']:,} of held_out are in train too"
    )
    for split in SPLITS:
        yield f"{split}: {len(opened.split(split)):,} images; {_classes(opened, split)}"
        for channel, counts in enumerate(histogram(opened.split(split))):
            yield f"  channel {channel}: {_statistics(pixels(counts))}"


def _classes(opened: Dataset, split: Split) -> str:
    counts = np.bincount(opened.split_labels(split), minlength=opened.manifest["classes"])
    if len(counts) > MOST_CLASSES:
        return f"{len(counts)} classes of {counts.min():,} to {counts.max():,}"
    return "by class " + " ".join(f"{count:,}" for count in counts)


def _statistics(p: Pixels) -> str:
    return (
        f"mean {p.mean:.4f}, standard deviation {p.sd:.4f}, from {p.lowest:.4f} to {p.highest:.4f}; "
        f"{p.at_zero:.1%} are 0, {p.at_one:.1%} are 1"
    )


def techniques(images: np.ndarray, *, sigma_min: float, overlap: float, steps_per_level: int) -> str:
    """NCSNv2's choices for a data set (arXiv 2006.09011): techniques 1, 2 and 4.

    Args:
        images: the train split, (N, C, H, W) uint8.
        sigma_min, overlap, steps_per_level: sigma_L, C and T, which the techniques leave open.
    """
    sigma_max = noise.max_pairwise_distance(torch.from_numpy(np.array(images))) / 255
    levels = noise.num_levels(sigma_max, sigma_min, int(np.prod(images.shape[1:])), overlap)
    step_size = noise.step_size(noise.geometric_sigmas(sigma_max, sigma_min, levels), steps_per_level)
    return (
        f"NCSNv2 with sigma_L {sigma_min:g}, overlap {overlap:g}, T {steps_per_level}: "
        f"sigma_1 {sigma_max:.4g}, L {levels}, eps {step_size:.3g}"
    )


def picture(opened: Dataset, path: Path) -> None:
    """A PNG of examples of both splits, evenly spread over each in its order."""
    panels = [
        GridPanel(name, f"{len(images):,} images", images[np.linspace(0, len(images) - 1, places).astype(int)])
        for name, images in ((name, opened.split(name)) for name in SPLITS)
        if (places := min(len(images), ROWS * COLUMNS))
    ]
    style.save(grid(panels, ROWS, COLUMNS), path.parent, path.stem, vector=False)


def catalogue() -> Iterator[str]:
    """Every data set: source, licence, and name, bytes and sha256 of its files, line by line."""
    for name, entry in CATALOGUE.items():
        sizes = " or ".join(map(str, entry.image_sizes or ()))
        yield f"{name}: {entry.title}"
        yield f"  licence: {entry.licence}{'; ' * bool(entry.homepage)}{entry.homepage}"
        yield f"  data.image_size: {sizes or 'any that the images allow'}"
        for file in entry.files:
            of = "unpacked" if file.of == "content" else "as published"
            yield f"  {file.name}: {file.size:,} bytes {of}, sha256 {file.sha256}"


def main(arguments: list[str] | None = None) -> int:
    """Print what is asked for; returns the exit code, 2 for a mistake of the user's."""
    parser = argparse.ArgumentParser("python -m pipeline.commands.show", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("data", "catalogue"), default="data")
    parser.add_argument("--folder", type=Path, default=Path("artifacts/data"), help="a prepared data set")
    parser.add_argument("--picture", type=Path, default=Path("artifacts/data.png"), help="a PNG to write")
    parser.add_argument("--sigma-min", type=float, default=0.01)
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--steps-per-level", type=int, default=5)
    given = parser.parse_args(arguments)
    try:
        for line in catalogue() if given.what == "catalogue" else _data(given):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _data(given: argparse.Namespace) -> Iterator[str]:
    opened = open_dataset(given.folder)
    yield from data(opened)
    picture(opened, given.picture)
    yield f"examples: {given.picture}"
    yield techniques(
        opened.split("train"),
        sigma_min=given.sigma_min,
        overlap=given.overlap,
        steps_per_level=given.steps_per_level,
    )


if __name__ == "__main__":
    sys.exit(main())
