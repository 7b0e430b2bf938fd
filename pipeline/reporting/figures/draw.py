"""Drawing of every figure of the report, in the page's order."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.reporting.figures import contours, curves, frontier, samples, searches
from pipeline.reporting.figures.grids import Images
from pipeline.reporting.figures.style import FigureEntry, Picture
from pipeline.reporting.rows import Table

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
        "of them in each mode. The paper states two ladders for one step of 0.1. Appendix B.1's, 20 to 1 "
        "(above), works. Section 4.3's, 10 to 0.1 (below), makes every sample about four times as large in "
        "each iteration, until all are NaN. (Fig 3 of arXiv 1907.05600.)",
    ),
}


def draw_figures(
    folder: Path, artifacts: Path, table: Table, real: Images, grid: Sequence[int]
) -> list[FigureEntry]:
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
    rows, networks = list(table.drawn()), list(dict.fromkeys(table.drawn().values()))
    names = list(dict.fromkeys(name for row in table.rows for name in row.names))
    folder.mkdir(parents=True, exist_ok=True)
    return [
        samples.sample_grids(folder, artifacts, table, real, grid),
        samples.ways_figure(folder, artifacts, rows),
        *samples.completion_figures(folder, artifacts, rows),
        *samples.neighbour_figures(folder, artifacts, rows, real),
        *frontier.frontier_figures(folder, artifacts, table),
        curves.loss_figure(folder, artifacts, networks),
        *curves.choice_figures(folder, artifacts, names),
        searches.step_size_figure(folder, artifacts),
        *searches.sampler_figures(folder, artifacts),
        *contours.contour_figures(folder, artifacts, searches.TUNE_SAMPLER),
        *searches.noise_figures(folder, artifacts),
        *contours.contour_figures(folder, artifacts, searches.TUNE_NOISE),
        *_toy(folder, artifacts),
    ]


def _toy(folder: Path, artifacts: Path) -> Iterator[FigureEntry]:
    for name, (title, caption) in TOYS.items():
        made = [path for end in ("png", "svg") if (path := artifacts / f"toy/{name}.{end}").exists()]
        for path in made:
            shutil.copyfile(path, folder / f"toy_{path.name}")
        files = tuple(f"toy_{path.name}" for path in made)
        yield FigureEntry(title, caption, "dvc repro toy", (Picture(files),))
