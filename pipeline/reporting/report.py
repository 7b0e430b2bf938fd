"""Report of a run: one call from the stages' files to the folder reports/."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.files import read_json, whole_folder, write_json, write_text
from pipeline.git import commit
from pipeline.reporting import dataset_card, html, latex, model_card, page, tables
from pipeline.reporting.figures.draw import draw_figures
from pipeline.reporting.figures.grids import Images
from pipeline.reporting.lineage import Made
from pipeline.reporting.read_table import SELFTEST, read_table
from pipeline.reporting.rows import Table


def write_report(
    out: Path,
    artifacts: Path,
    rows: Mapping[str, str],
    *,
    manifest: Mapping[str, Any],
    real: Images,
    grid: Sequence[int],
    margin: float | None = None,
    extra_seeds: Sequence[int] = (),
    runs: Mapping[str, tuple[Made, ...]] | None = None,
) -> Table:
    """Write README.md, index.html, table.{md,tex,csv,json}, both cards and figures/, whole or not at all.

    The same files, commit and run ids give the same bytes: nothing here carries a date.

    Args:
        artifacts: the stages' outputs.
        rows: ROW: NETWORK, in order.
        manifest: of the data set.
        real: its training images, uint8 (n, C, H, W).
        grid: rows and columns of the sample grids.
        margin, extra_seeds: see `read_table`.
        runs: ROW or ROW-SEED -> the runs that made its numbers.

    Raises:
        UserError: a file of an evaluated row is missing or damaged.
    """
    table = read_table(artifacts, rows, manifest, commit(), runs, extra_seeds=extra_seeds, margin=margin)
    samplers = _samplers(artifacts, rows)
    features, toy = (_numbers(artifacts / name) for name in ("metrics/features.json", "toy/numbers.json"))
    checks = read_json(path) if (path := artifacts / SELFTEST).exists() else ()
    with whole_folder(out) as folder:
        shown = draw_figures(folder / page.FIGURES, artifacts, table, real, grid)
        parts = page.sections(table, shown, samplers, features, toy, checks)
        write_text(folder / "README.md", page.readme(table, parts))
        write_text(folder / "index.html", html.html_page(page.title(table), parts, folder / page.FIGURES))
        write_text(folder / "model_card.md", model_card.model_card(table, manifest, samplers))
        write_text(
            folder / "dataset_card.md", dataset_card.dataset_card(manifest, _classes(artifacts, manifest))
        )
        write_text(folder / "table.md", tables.markdown(table))
        write_text(folder / "table.tex", latex.latex_table(table))
        write_text(folder / "table.csv", tables.to_csv(table))
        write_json(folder / "table.json", tables.to_json(table))
    return table


def _samplers(artifacts: Path, rows: Iterable[str]) -> dict[str, dict[str, Any]]:
    paths = {row: artifacts / f"samples/{row}/manifest.json" for row in rows}
    return {row: read_json(path)["sampler"] for row, path in paths.items() if path.exists()}


def _classes(artifacts: Path, manifest: Mapping[str, Any]) -> dict[str, list[int]]:
    """Images of each class in each split; none where the labels are not there."""
    path = artifacts / "data/labels.npy"
    if not path.exists():
        return {}
    labels, bounds = np.load(path, allow_pickle=False), manifest["split"]
    return {
        name: np.bincount(labels[slice(*bounds[name])], minlength=manifest["classes"]).tolist()
        for name in ("train", "held_out")
    }


def _numbers(path: Path) -> dict[str, Any]:
    return dict(read_json(path)) if path.exists() else {}
