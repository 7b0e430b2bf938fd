"""Held-out images completed from their left halves: Fig 6 of the 2019 paper."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline.reporting import grids
from pipeline.reporting.figure_entry import Picture, Shown, keep
from pipeline.reporting.grids import Group, Images

VEIL = 205
"""Grey of what the sampler is not shown."""
CAPTION = (
    "Held-out images of which the left half is kept (grey: what the sampler is not shown), independent "
    "completions by annealed Langevin dynamics, and the original. Only variants sampled by Langevin dynamics "
    "have a completion. (Algorithm 2 and Fig 6 of arXiv 1907.05600.)"
)


def shown(folder: Path, artifacts: Path, variants: Sequence[str]) -> Iterator[Shown]:
    """The figure, a picture for each variant that completed images; none where no variant did."""
    paths = {variant: artifacts / f"samples/{variant}/inpainting.npy" for variant in variants}
    there = {variant: path for variant, path in paths.items() if path.exists()}
    if there:
        made = tuple(_picture(folder, variant, path) for variant, path in there.items())
        yield Shown("Images completed", CAPTION, "dvc repro generate", made)


def _picture(folder: Path, variant: str, path: Path) -> Picture:
    completed: Images = np.load(path, allow_pickle=False)
    originals = completed[:, :1]
    groups = [
        Group("known", masked(originals)),
        Group("completions", completed[:, 1:]),
        Group("original", originals),
    ]
    return keep(grids.groups(groups), folder, f"inpainting_{variant}", label=variant)


def masked(images: Images) -> Images:
    """Images (..., W) with their right halves veiled, as `generate` hides them."""
    veiled = images.copy()
    veiled[..., images.shape[-1] // 2 :] = VEIL
    return veiled
