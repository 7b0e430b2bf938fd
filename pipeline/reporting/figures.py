"""Every figure of the report: where its data lie, what it is called, what its caption says."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from pipeline.files import read_json
from pipeline.reporting import lines, pictures, style
from pipeline.reporting.pictures import Images, Panel
from pipeline.reporting.rows import Row, Table
from pipeline.samplers.settings import Sampler

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


@dataclass(frozen=True)
class Shown:
    """A figure of the page, or the place of one whose stage has not run."""

    name: str
    title: str
    caption: str
    command: str
    """What makes the data of the figure."""
    files: tuple[str, ...] = ()
    """File names in the figures folder, the picture first; empty where the stage has not run."""


def draw(folder: Path, artifacts: Path, table: Table, real: Images, grid: Sequence[int]) -> list[Shown]:
    """Draw every figure that the run's files allow.

    Args:
        folder: where the figures go.
        artifacts: the stages' outputs.
        real: training images, uint8 (n, C, H, W).
        grid: rows and columns of the sample grids.

    Returns:
        The figures in the page's order, with those whose stage has not run in their places.

    Raises:
        UserError: a stage's file is there but cannot be read.
    """
    shown = [_samples(folder, artifacts, table, real, grid)]
    shown += _strips(folder, artifacts, table)
    shown.append(_curves(folder, artifacts, table))
    shown.append(_step_size(folder, artifacts))
    shown.append(_noise_range(folder, artifacts))
    return shown + list(_toy(folder, artifacts))


def nearest_to_floor(table: Table, variant: str) -> Row | None:
    """The better of a variant's two rows by FID; None where neither was measured."""
    rows = [row for row in (table.row(variant, False), table.row(variant, True)) if row and row.measured]
    return min(rows, key=lambda row: row.fid or 0.0, default=None)


def _variants(table: Table) -> list[str]:
    return list(dict.fromkeys(row.system for row in table.rows if not row.is_floor))


def _samples(folder: Path, artifacts: Path, table: Table, real: Images, grid: Sequence[int]) -> Shown:
    panels = [Panel("real", f"{table.data}, training images", real)]
    for row in filter(None, (nearest_to_floor(table, variant) for variant in _variants(table))):
        kind = "denoised" if row.denoised else "raw"
        images = np.load(artifacts / f"samples/{row.system}/{kind}.npy", mmap_mode="r", allow_pickle=False)
        how = "with" if row.denoised else "without"
        panels.append(Panel(row.system, f"{how} denoising, FID {row.fid:.4g} (N={row.n:,})", images))
    count = grid[0] * grid[1]
    caption = (
        f"The first {count} images of each set in their order, none picked. Of each variant those with or "
        "without the last denoising step are shown, whichever have the lower FID. Every pixel is a square."
    )
    made = pictures.grid(panels, *grid)
    return _keep(made, folder, "samples", "Samples beside real images", caption, "dvc repro generate", False)


def _strips(folder: Path, artifacts: Path, table: Table) -> Iterator[Shown]:
    for variant in _variants(table):
        path = artifacts / f"samples/{variant}/intermediate.npy"
        name, title = f"intermediate_{variant}", f"From noise to data: {variant}"
        caption = (
            "Annealed Langevin dynamics, a sample per row, at the end of the noise level written above it. "
            "Values outside [0, 1] are clamped for display only. (Fig 4 of arXiv 1907.05600.)"
        )
        command = f"dvc repro generate@{variant}"
        if not path.exists():
            yield Shown(name, title, caption, command)
            continue
        frames = np.load(path, mmap_mode="r", allow_pickle=False)
        labels = _level_labels(path.with_name("manifest.json"), len(frames))
        made = pictures.strip(frames, labels, columns=LEVELS_SHOWN)
        yield _keep(made, folder, name, title, caption, command, False)


def _level_labels(manifest: Path, frames: int) -> list[str]:
    """`σ = 1` and so on: the noise levels of `frames` frames, spread evenly over the sampler's ladder."""
    sigmas = Sampler.read(read_json(manifest)["sampler"]).ladder.sigmas()
    kept = np.linspace(0, len(sigmas) - 1, frames).round().astype(int)
    first, *rest = (f"{float(sigmas[level]):.2g}" for level in kept)
    return [f"σ = {first}", *rest]


def _curves(folder: Path, artifacts: Path, table: Table) -> Shown:
    paths = {variant: artifacts / f"curves/{variant}.csv" for variant in _variants(table)}
    caption = (
        "Loss as logged (thin) and its running mean (bold). Each curve is a mean over its own noise levels, "
        "so that heights compare within a variant and not between them."
    )
    there = {variant: path for variant, path in paths.items() if path.exists()}
    title, command = "Training", "dvc repro train"
    if not there:
        return Shown("loss", title, caption, command)
    read = {variant: lines.read_columns(path, ("images", "loss")) for variant, path in there.items()}
    read = {
        variant: columns for variant, columns in read.items() if len(columns["loss"])
    }  # not imported ones
    if not read:
        return Shown("loss", title, caption, command)
    made = lines.loss_curves({variant: (c["images"], c["loss"]) for variant, c in read.items()})
    return _keep(made, folder, "loss", title, caption, command)


def _step_size(folder: Path, artifacts: Path) -> Shown:
    caption = (
        "FID of every trial of `tune_sampler` against the step size, its ratio to the analytic choice "
        "(technique 4 of NCSNv2) and the steps per level. Trials use samples and seeds that the table never "
        "uses; FIDs on fewer samples (hollow) are higher by construction and are not compared with full ones."
    )
    return _search(
        folder,
        artifacts / "sampler/trials.csv",
        lines.STEP_SIZE,
        Shown("step_size", "FID against step size", caption, "dvc repro tune_sampler"),
    )


def _noise_range(folder: Path, artifacts: Path) -> Shown:
    caption = (
        "FID of every trial of `tune_noise`, a short training each, against the ends and the length of its "
        "ladder. Trials stopped after fewer steps (hollow) are not compared with the others. The analytic "
        "choice is techniques 1 and 2 of NCSNv2 on this data set."
    )
    return _search(
        folder,
        artifacts / "noise/trials.csv",
        lines.NOISE_RANGE,
        Shown("noise_range", "FID against the noise range", caption, "dvc repro tune_noise"),
    )


def _search(folder: Path, path: Path, search: lines.Search, shown: Shown) -> Shown:
    found = lines.read_trials(path, search) if path.exists() else []
    if not found:
        return shown
    made = lines.trials(found, search)
    return _keep(made, folder, shown.name, shown.title, shown.caption, shown.command)


def _toy(folder: Path, artifacts: Path) -> Iterator[Shown]:
    for name, (title, caption) in TOYS.items():
        made = [path for end in ("png", "svg") if (path := artifacts / f"toy/{name}.{end}").exists()]
        for path in made:
            shutil.copyfile(path, folder / f"toy_{path.name}")
        files = tuple(f"toy_{path.name}" for path in made)
        yield Shown(f"toy_{name}", title, caption, "dvc repro toy", files)


def _keep(
    made: Figure, folder: Path, name: str, title: str, caption: str, command: str, vector: bool = True
) -> Shown:
    return Shown(name, title, caption, command, tuple(style.save(made, folder, name, vector=vector)))
