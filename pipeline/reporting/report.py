"""Report of a run: from the stages' files to the folder reports/, figures included."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.dataset import Manifest
from pipeline.files import read_json, whole_folder, write_json, write_text
from pipeline.git import commit
from pipeline.metrics.drawn import Drawn
from pipeline.metrics.selftest import KnownAnswer
from pipeline.ncsn.sampler import Sampler
from pipeline.pictures import Images
from pipeline.progress import reported
from pipeline.reporting import cards, latex, page, tables
from pipeline.reporting.figures import contours, curves, samples, searches, toy
from pipeline.reporting.figures.style import FigureEntry
from pipeline.reporting.lineage import Made, StageGraph
from pipeline.reporting.read_table import SELFTEST, read_table
from pipeline.reporting.rows import Table


def write_report(
    out: Path,
    artifacts: Path,
    rows: Mapping[str, str],
    *,
    manifest: Manifest,
    real: Images,
    grid: Sequence[int],
    margin: float | None = None,
    extra_seeds: Sequence[int] = (),
    runs: Mapping[str, tuple[Made, ...]] | None = None,
) -> Table:
    """Write README.md, index.html, table.{md,tex,csv,json}, settings.json, cards and figures/, whole or not at all.

    The same files, commit and run ids give the same bytes: nothing here carries a date.

    Args:
        artifacts: the stages' outputs.
        rows: ROW: NETWORK, in order.
        real: training images of the data set, uint8 (n, C, H, W).
        grid: rows and columns of the sample grids.
        margin, extra_seeds: see `read_table`.
        runs: ROW or ROW-SEED -> the runs that made its numbers.

    Raises:
        UserError: a file of an evaluated row is missing or damaged.
    """
    table = read_table(artifacts, rows, manifest, commit(), runs, extra_seeds=extra_seeds, margin=margin)
    sampled_by = _samplers(artifacts, rows)
    features: page.FeatureNumbers | None = _read(artifacts / "metrics/features.json")
    numbers: page.ToyNumbers | None = _read(artifacts / "toy/numbers.json")
    checks: list[KnownAnswer] = _read(artifacts / SELFTEST) or []
    with whole_folder(out) as folder:
        shown = draw_figures(folder / page.FIGURES, artifacts, table, real, grid)
        hero = samples.hero_figure(folder / page.FIGURES, artifacts, table, real)
        parts = page.sections(table, shown, sampled_by, features, numbers, checks, hero)
        write_text(folder / "README.md", page.readme(table, parts))
        write_text(folder / "index.html", page.html_page(page.title(table), parts, folder / page.FIGURES))
        write_text(folder / "model_card.md", cards.model_card(table, manifest, sampled_by))
        write_text(folder / "dataset_card.md", cards.dataset_card(manifest, _classes(artifacts, manifest)))
        write_text(folder / "table.md", tables.markdown(table))
        write_text(folder / "table.tex", latex.latex_table(table))
        write_text(folder / "table.csv", tables.to_csv(table))
        write_json(folder / "table.json", tables.to_json(table))
        write_json(folder / "settings.json", _settings(artifacts.parent, rows))
    return table


def _settings(root: Path, rows: Iterable[str]) -> dict[str, dict[str, object]]:
    """ROW: the values of params.yaml that its numbers depend on; none without a dvc.yaml."""
    graph = StageGraph.read(root)
    return {row: graph.parameters(row) for row in rows} if graph else {}


def _samplers(artifacts: Path, rows: Iterable[str]) -> dict[str, Sampler]:
    folders = {row: artifacts / f"samples/{row}" for row in rows}
    return {row: Drawn.read(folder).sampler for row, folder in folders.items() if folder.exists()}


def _classes(artifacts: Path, manifest: Manifest) -> dict[str, list[int]]:
    """Images of each class in each split; none where the labels are not there."""
    path = artifacts / "data/labels.npy"
    if not path.exists():
        return {}
    labels, split = np.load(path, allow_pickle=False), manifest["split"]
    return {
        name: np.bincount(labels[slice(*rows)], minlength=manifest["classes"]).tolist()
        for name, rows in (("train", split["train"]), ("held_out", split["held_out"]))
    }


def _read(path: Path) -> Any:
    """The content of a JSON file; None where its stage has not run."""
    return read_json(path) if path.exists() else None


def draw_figures(folder: Path, artifacts: Path, table: Table, real: Images, grid: Sequence[int]) -> list[FigureEntry]:
    """Figures that the run's files allow, drawn into the folder, in the page's order.

    Those whose stage has not run have a placeholder; neighbours, completed images and the frontier are left out.
    """
    rows, networks = list(table.drawn()), list(dict.fromkeys(table.drawn().values()))
    names = list(dict.fromkeys(name for row in table.rows for name in row.names))
    folder.mkdir(parents=True, exist_ok=True)
    drawers: list[Callable[[], Iterable[FigureEntry]]] = [
        lambda: [samples.sample_grids(folder, artifacts, table, real, grid)],
        lambda: [samples.ways_figure(folder, artifacts, rows)],
        lambda: samples.completion_figures(folder, artifacts, table),
        lambda: samples.neighbour_figures(folder, artifacts, rows, real),
        lambda: curves.frontier_figures(folder, artifacts, table),
        lambda: [curves.loss_figure(folder, artifacts, networks)],
        lambda: curves.choice_figures(folder, artifacts, names),
        lambda: [searches.step_size_figure(folder, artifacts)],
        lambda: searches.sampler_figures(folder, artifacts),
        lambda: contours.contour_figures(folder, artifacts, searches.TUNE_SAMPLER),
        lambda: searches.noise_figures(folder, artifacts),
        lambda: contours.contour_figures(folder, artifacts, searches.TUNE_NOISE),
        lambda: toy.toy_entries(folder, artifacts, table.data),
    ]
    return [entry for draw in reported("parts of the report", drawers, len(drawers)) for entry in draw()]
