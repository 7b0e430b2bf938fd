"""The sampler search's objective over a coarse grid: FID against the step size's ratio and the levels.

    python -m benchmarks.surface --ratios 7 --levels 5

Needs params.yaml and what `tune_sampler` needs in artifacts/. Langevin dynamics on the trained range of
noise, each point with as many steps per level as the budget of evaluations has room for, on the samples and
against the reference of the search's own objective. Draws docs/results/tuning_surface.png and writes the
numbers next to it. Points are kept in .runs/: a run that was cut off resumes.
"""

import argparse
import csv
import os
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from benchmarks.asked import asked
from pipeline.generate.draw import draw, single_threaded
from pipeline.metrics.fid import distance, moments
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.sampler import Sampler
from pipeline.reporting.figures import style
from pipeline.search import Budget, Range, SearchStore, search_here
from pipeline.search import sampler as tune_sampler
from stages import tune_sampler as stage

COLUMNS = ("step_size_ratio", "num_levels", "steps_per_level", "nfe", "samples", "fid")
Rows = list[dict[str, float]]


def point(settings: dict[str, Any], setup: Any) -> Iterator[dict[str, float]]:
    """FID at one point of the grid."""
    single_threaded()
    levels, ends = settings["num_levels"], (setup.trained.sigma_max, setup.trained.sigma_min)
    steps = max(1, (setup.max_nfe - 1) // levels)
    sampler = Sampler.analytic(Ladder(*ends, levels), steps, ratio=settings["step_size_ratio"])
    count = setup.budget.rungs[-1]
    drawn = draw(setup.network, sampler, seed=setup.budget.seed, indices=range(count), shape=setup.shape)
    fid = distance(moments(setup.features.features(drawn.denoised)), setup.reference)
    yield {"steps_per_level": steps, "nfe": drawn.nfe["denoised"], "samples": count, "fid": fid}


def grid(ratios: int, levels: int, setup: Any) -> list[dict[str, Any]]:
    """Ratios from 1/4 to 16, and levels from 3 to the budget, both evenly in the logarithm."""
    across = np.geomspace(0.25, 16, ratios).round(4).tolist()
    up = sorted({int(count) for count in np.geomspace(3, setup.max_nfe - 1, levels).round()})
    return [{"step_size_ratio": x, "num_levels": y} for y, x in product(up, across)]


@style.house
def figure(rows: Rows) -> Any:
    """FID as a map of its logarithm with every value written, the smallest in a frame."""
    xs, ys = (sorted({row[name] for row in rows}) for name in ("step_size_ratio", "num_levels"))
    table = {(row["step_size_ratio"], row["num_levels"]): row["fid"] for row in rows}
    values = np.array([[table.get((x, y), np.nan) for x in xs] for y in ys])
    made = style.figure(3.6, width=5.4)
    axes = made.add_subplot()
    shown = axes.pcolormesh(_edges(xs), _edges(ys), np.log10(values), cmap=style.SEQUENTIAL + "_r")
    low, high = np.nanmin(values), np.nanmax(values)
    for (row, column), value in np.ndenumerate(values):
        best = value == low
        axes.text(
            xs[column], ys[row], f"{value:.1f}", ha="center", va="center", fontsize=8,
            color="white" if value > np.sqrt(low * high) else style.INK, weight="bold" if best else "normal",
            bbox={"facecolor": "none", "edgecolor": style.VERMILION} if best else None,
        )  # fmt: skip
    _ticks(axes, xs, ys)
    axes.set(xlabel="step size / analytic choice (technique 4)", ylabel="L, number of levels")
    axes.grid(False)
    bar = made.colorbar(shown, ax=axes, label="FID of the objective")
    ends = np.geomspace(low, high, 4)
    bar.set_ticks(np.log10(ends).tolist(), labels=[f"{end:.3g}" for end in ends])
    return made


def _edges(centres: Sequence[float]) -> Any:
    """The ends of cells around their centres, halfway in the logarithm."""
    logs = np.log(centres)
    inner = (logs[1:] + logs[:-1]) / 2
    return np.exp([2 * logs[0] - inner[0], *inner, 2 * logs[-1] - inner[-1]])


def _ticks(axes: Any, xs: Sequence[float], ys: Sequence[float]) -> None:
    axes.set(xscale="log", yscale="log")
    for axis, values in ((axes.xaxis, xs), (axes.yaxis, ys)):
        axis.set_major_locator(FixedLocator(list(values)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())


def measured(ratios: int, levels: int) -> Rows:
    """The objective at each point of the grid."""
    setup = asked(stage.main, tune_sampler)[-1].shared["setup"]
    points = grid(ratios, levels, setup)
    space = {name: Range(*(end(p[name] for p in points) for end in (min, max))) for name in points[0]}
    budget = Budget(len(points), (1,), 2, 1, seed=0)
    records = search_here(
        point, space, metric="fid", budget=budget, points=points, shared={"setup": setup},
        store=SearchStore(Path(".runs"), "surface"),
    )  # fmt: skip
    return [{**record.settings, **record.metrics} for record in records if record.rungs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--ratios", type=int, default=7)
    parser.add_argument("--levels", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    given = parser.parse_args()
    out = given.out.absolute()
    os.chdir(given.root)
    rows = measured(given.ratios, given.levels)
    with (out / "tuning_surface.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    style.save(figure(rows), out, "tuning_surface", vector=False)


if __name__ == "__main__":
    main()
