"""Every figure of the report: where its data lie, what it is called, what its caption says."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline.files import read_yaml
from pipeline.reporting import (
    animation,
    contours,
    curves,
    frontier,
    grids,
    inpainting,
    neighbours,
    noise_search,
    sampler_search,
    selection,
)
from pipeline.reporting.figure_entry import Picture, Shown, keep
from pipeline.reporting.grids import Images, Panel
from pipeline.reporting.rows import Row, Table

LEVELS_SHOWN = 12

# Title and caption of the figures that the stage `toy` drew.
TOYS = {
    "fig1": (
        "Toy: the loss without noise",
        "Sliced score matching of a residual auto-encoder on this data set, without noise and with a little: "
        "pixels of few grey levels leave the loss without a lower bound, noise gives it one. The network and "
        "its training are smaller than the paper's, as written below. (Fig 1 of arXiv 1907.05600.)",
    ),
    "fig2": (
        "Toy: score fields",
        "The score of the two-mode mixture, exact and as a network learnt it by sliced score matching: right "
        "where there are data, wrong where there are none. (Fig 2 of arXiv 1907.05600.)",
    ),
    "fig3": (
        "Toy: why the noise is annealed",
        "Samples of the mixture by plain and by annealed Langevin dynamics with exact scores, and the share "
        "of them in each mode. The paper states two ladders for one step of 0.1: appendix B.1's, 20 to 1 "
        "(above), works; section 4.3's, 10 to 0.1 (below), makes every sample about four times as large in "
        "each iteration, until none is a number. (Fig 3 of arXiv 1907.05600.)",
    ),
}


def draw(folder: Path, artifacts: Path, table: Table, real: Images, grid: Sequence[int]) -> list[Shown]:
    """Draw every figure that the run's files allow.

    Args:
        folder: where the figures go.
        artifacts: the stages' outputs.
        real: training images, uint8 (n, C, H, W).
        grid: rows and columns of the sample grids.

    Returns:
        The figures in the page's order, with those whose stage has not run in their places; neighbours,
        completed images and the frontier are left out where the run has none.

    Raises:
        UserError: a stage's file is there but cannot be read.
    """
    variants = list(dict.fromkeys(row.system for row in table.rows if not row.is_floor))
    networks = list(dict.fromkeys(network for row in table.rows for network in row.networks))
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _samples(folder, artifacts, table, variants, real, grid),
        _ways(folder, artifacts, variants),
        *inpainting.shown(folder, artifacts, variants),
        *neighbours.shown(folder, artifacts, variants, real),
        *frontier.shown(folder, artifacts, table),
        _curves(folder, artifacts, variants),
        *selection.shown(folder, artifacts, networks),
        _step_size(folder, artifacts),
        *sampler_search.shown(folder, artifacts),
        *contours.shown(folder, artifacts, "sampler"),
        *noise_search.shown(folder, artifacts),
        *contours.shown(folder, artifacts, "noise"),
        *_toy(folder, artifacts),
    ]


def nearest_to_floor(table: Table, variant: str) -> Row | None:
    """The better of a variant's two rows by FID; None where neither was measured."""
    rows = [row for row in (table.row(variant, False), table.row(variant, True)) if row and row.measured]
    return min(rows, key=lambda row: row.fid or 0.0, default=None)


def _samples(
    folder: Path,
    artifacts: Path,
    table: Table,
    variants: Sequence[str],
    real: Images,
    grid: Sequence[int],
) -> Shown:
    panels = [Panel("real", f"{table.data}, training images", real)]
    for row in filter(None, (nearest_to_floor(table, variant) for variant in variants)):
        kind = "denoised" if row.denoised else "raw"
        images = np.load(artifacts / f"samples/{row.system}/{kind}.npy", mmap_mode="r", allow_pickle=False)
        how = "with" if row.denoised else "without"
        panels.append(Panel(row.system, f"{how} denoising, FID {row.fid:.4g} (N={row.n:,})", images))
    caption = (
        f"The first {grid[0] * grid[1]} images of each set in their order, none picked. Of each variant "
        "those with or without the last denoising step are shown, whichever have the lower FID. Every pixel "
        "is a square."
    )
    made = keep(grids.grid(panels, *grid), folder, "samples")
    return Shown("Samples beside real images", caption, "dvc repro generate", (made,))


def _ways(folder: Path, artifacts: Path, variants: Sequence[str]) -> Shown:
    caption = (
        "Samples on their way through the noise levels. Moving: eight samples of each variant, all variants "
        "at the same share of their levels. Standing: a sample per row, at the end of the noise level "
        "written above it. Values outside [0, 1] are clamped for display only. (Fig 4 of arXiv 1907.05600.)"
    )
    ways = [way for way in (animation.read(artifacts, variant) for variant in variants) if way]
    found = [animation.picture(folder, ways)] if ways else []
    for variant in variants:
        way = next((way for way in ways if way.variant == variant), None)
        if way is None:
            found.append(Picture(label=variant))
            continue
        made = grids.strip(way.images, way.labels(), columns=LEVELS_SHOWN)
        found.append(keep(made, folder, f"intermediate_{variant}", label=f"{variant}, by {way.kind}"))
    return Shown("From noise to data", caption, "dvc repro generate", tuple(found))


def _curves(folder: Path, artifacts: Path, variants: Sequence[str]) -> Shown:
    caption = (
        "Loss as logged (thin) and its running mean (bold). Each curve is a mean over its own noise levels, "
        "so that heights compare within a variant and not between them."
    )
    paths = {variant: artifacts / f"curves/{variant}.csv" for variant in variants}
    read = {v: curves.read_columns(path, ("images", "loss")) for v, path in paths.items() if path.exists()}
    read = {v: columns for v, columns in read.items() if len(columns["loss"])}  # not imported ones
    picture = Picture()
    if read:
        made = curves.loss_curves({v: (columns["images"], columns["loss"]) for v, columns in read.items()})
        picture = keep(made, folder, "loss")
    return Shown("Training", caption, "dvc repro train", (picture,))


def _step_size(folder: Path, artifacts: Path) -> Shown:
    caption = (
        "FID of every trial of `tune_sampler` by Langevin dynamics against the step size, its ratio to the "
        "analytic choice (technique 4 of NCSNv2) and the steps per level. Trials use samples and seeds that "
        "the table never uses; FIDs on fewer samples (hollow) are higher by construction and are not "
        "compared with full ones."
    )
    best = artifacts / "sampler/best.yaml"  # of several budgets, the one whose analytic choice is compared
    analytic = read_yaml(best)["analytic"]["trial"] if best.exists() else 1
    path = artifacts / "sampler/trials.csv"
    found = curves.read_trials(path, curves.STEP_SIZE) if path.exists() else []
    made = keep(curves.trials(found, curves.STEP_SIZE, analytic), folder, "step_size") if found else Picture()
    return Shown("FID against step size", caption, "dvc repro tune_sampler", (made,))


def _toy(folder: Path, artifacts: Path) -> Iterator[Shown]:
    for name, (title, caption) in TOYS.items():
        made = [path for end in ("png", "svg") if (path := artifacts / f"toy/{name}.{end}").exists()]
        for path in made:
            shutil.copyfile(path, folder / f"toy_{path.name}")
        files = tuple(f"toy_{path.name}" for path in made)
        yield Shown(title, caption, "dvc repro toy", (Picture(files),))
