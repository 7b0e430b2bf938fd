"""The report of a run: one call from the stages' files to the folder reports/."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.files import read_json, whole_folder, write_json, write_text
from pipeline.git import commit
from pipeline.reporting import dataset_card, figures, html, latex, model_card, page, rows, tables
from pipeline.reporting.grids import Images
from pipeline.reporting.lineage import Made
from pipeline.reporting.rows import Table


def write(
    out: Path,
    artifacts: Path,
    variants: Sequence[str],
    *,
    manifest: Mapping[str, Any],
    real: Images,
    grid: Sequence[int],
    margin: float | None = None,
    more_seeds: Sequence[int] = (),
    runs: Mapping[str, tuple[Made, ...]] | None = None,
) -> Table:
    """Write README.md, index.html, table.{md,tex,csv,json}, both cards and figures/, whole or not at all.

    The same files, commit and run ids give the same bytes: nothing here carries a date.

    Args:
        artifacts: the stages' outputs.
        variants: the rows, in order.
        manifest: of the data set.
        real: its training images, uint8 (n, C, H, W).
        grid: rows and columns of the sample grids.
        margin, more_seeds: see `rows.build`.
        runs: variant -> the runs that made its numbers.

    Raises:
        UserError: a file of an evaluated variant is missing or damaged.
    """
    table = rows.build(artifacts, variants, manifest, commit(), runs, more_seeds=more_seeds, margin=margin)
    samplers = _samplers(artifacts, variants)
    reference, toy = (_numbers(artifacts / name) for name in ("metrics/reference.json", "toy/numbers.json"))
    checks = read_json(path) if (path := artifacts / rows.SELFTEST).exists() else ()
    with whole_folder(out) as folder:
        shown = figures.draw(folder / page.FIGURES, artifacts, table, real, grid)
        parts = page.sections(table, shown, samplers, reference, toy, checks)
        write_text(folder / "README.md", page.readme(table, parts))
        write_text(folder / "index.html", html.page(page.title(table), parts, folder / page.FIGURES))
        write_text(folder / "model_card.md", model_card.card(table, manifest, samplers))
        write_text(folder / "dataset_card.md", dataset_card.card(manifest, _classes(artifacts, manifest)))
        write_text(folder / "table.md", tables.markdown(table))
        write_text(folder / "table.tex", latex.table(table))
        write_text(folder / "table.csv", tables.to_csv(table))
        write_json(folder / "table.json", tables.to_json(table))
    return table


def _samplers(artifacts: Path, variants: Sequence[str]) -> dict[str, dict[str, Any]]:
    paths = {variant: artifacts / f"samples/{variant}/manifest.json" for variant in variants}
    return {variant: read_json(path)["sampler"] for variant, path in paths.items() if path.exists()}


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
