"""The pictures of the sampler search: FID against evaluations with its front, and all trials side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from pipeline.files import read_yaml
from pipeline.ncsn.errors import UserError
from pipeline.reporting import curves, style
from pipeline.reporting.figure_entry import Shown, keep
from pipeline.reporting.parallel import parallel

COMMAND = "dvc repro tune_sampler"
PARETO, TRIALS, BEST = "pareto.csv", "trials.csv", "best.yaml"
AXES = {
    "nfe": "evaluations",
    "num_levels": "levels",
    "sigma_max": "σ$_1$",
    "sigma_min": "σ$_L$",
    "step_size_ratio": "step /\nanalytic",
    "steps_per_level": "steps a\nlevel",
    "snr": "snr",
    "churn": "churn",
    "rho": "ρ",
    "fid": "FID",
}
"""Columns of trials.csv that are axes of the parallel coordinates, where any trial has a value."""
MARKS = {
    "analytic": ("D", style.INK, 40, "analytic choice"),
    "fewest": ("s", style.GREEN, 90, "fewest at published FID"),
    "knee": ("^", style.ORANGE, 130, "knee"),
    "tuned": ("o", style.VERMILION, 150, "lowest FID"),
}
"""How the chosen trials are ringed: marker, colour, size, name."""


@dataclass(frozen=True)
class Judged:
    """A trial that was judged on all samples, as pareto.csv has it."""

    kind: str
    nfe: float
    fid: float
    on_front: bool
    chosen: tuple[str, ...]


def draw(folder: Path) -> None:
    """Draw a search's files into pareto.png and parallel.png beside them; nothing where there are none.

    Raises:
        UserError: a file cannot be read.
    """
    if not (folder / PARETO).exists():
        return
    style.save(front(*read(folder)), folder, "pareto", vector=False)
    style.save(parallel(curves.read_rows(folder / TRIALS), AXES), folder, "parallel", vector=False)


def shown(folder: Path, artifacts: Path) -> Iterator[Shown]:
    """Both figures for the page; none where no sampler was searched."""
    found = artifacts / "sampler"
    if not (found / PARETO).exists():
        return
    points, best = read(found)
    caption = (
        "Every trial of `tune_sampler` that was judged on all samples: FID against network evaluations for "
        "each sample. On the line are those that no other beats in both. Ringed: the analytic choice "
        "(technique 4 of NCSNv2), the lowest FID, the knee (the point farthest below the chord of the "
        f"front's ends, in logarithms) and {_fewest(best)} (cross: the published sampler), both measured "
        f"again on seeds of their own. {_verdict(best)} FIDs are of other samples than the "
        "table's and against other images."
    )
    yield Shown(
        "Sampler search: FID against evaluations",
        caption,
        COMMAND,
        (keep(front(points, best), folder, "pareto"),),
    )
    caption = (
        "Every trial of `tune_sampler` as a line through its settings, coloured by its FID; thin and dashed "
        "where it was stopped on fewer samples. A line passes over the settings that its sampler has not."
    )
    made = keep(parallel(curves.read_rows(found / TRIALS), AXES), folder, "parallel")
    yield Shown("Sampler search: every trial", caption, COMMAND, (made,))


def _fewest(best: dict[str, Any]) -> str:
    if best["fewest"].get("reaches_published", True):
        return "the cheapest that reaches the FID of the published sampler"
    return "the lowest FID once more, since none reaches that of the published sampler"


def _verdict(best: dict[str, Any]) -> str:
    verdict, seeds = best["verdict"], best["tuned"]["seeds"]
    spread = ", ".join(f"{std:.2g} at {n}" for n, std in verdict["std_of_log_fid"].items())
    return (
        f"Log FID's standard deviation over seeds, by the number of samples: {spread}. On {seeds} further "
        f"seeds the lowest has {verdict['fid_ratio']:.3g} times the analytic choice's FID;"
        f" up to {verdict['equal_up_to']:.3g} times either way is noise: "
        f"**{verdict['tuned_against_analytic']}**. With the last denoising its FID is "
        f"{verdict['denoising_fid_ratio']:.3g} times that without on the same samples; up to "
        f"{verdict['denoising_equal_up_to']:.3g} times is noise: "
        f"**{verdict['denoising_against_none']}**."
    )


def read(folder: Path) -> tuple[list[Judged], dict[str, Any]]:
    """The judged trials, the cheapest first, and best.yaml.

    Raises:
        UserError: a file is missing or lacks a column.
    """
    try:
        points = [
            Judged(
                r["sampler"],
                float(r["nfe"]),
                float(r["fid"]),
                r["on_front"] == "1",
                tuple(r["chosen"].split()),
            )
            for r in curves.read_rows(folder / PARETO)
        ]
    except (KeyError, ValueError) as error:
        raise UserError(f"{folder / PARETO}: bad or missing column ({error}): run `{COMMAND}`.") from error
    return points, dict(read_yaml(folder / BEST))


@style.house
def front(points: Sequence[Judged], best: dict[str, Any]) -> Figure:
    """The trials by kind, their front as steps, what was chosen ringed, the published sampler as a cross.

    Args:
        points: at least one; FID above 0.
    """
    figure = style.figure(3.4)
    axes = figure.subplots()
    on = [point for point in points if point.on_front]
    axes.step([p.nfe for p in on], [p.fid for p in on], where="post", color=style.GREY, linewidth=1, zorder=1)
    for place, kind in enumerate(dict.fromkeys(point.kind for point in points)):
        some = [point for point in points if point.kind == kind]
        colour, marker = style.CYCLE[place % len(style.CYCLE)], style.MARKERS[place % len(style.MARKERS)]
        axes.scatter(
            [p.nfe for p in some], [p.fid for p in some], s=22, color=colour, marker=marker, label=kind
        )
    for name, (marker, colour, size, label) in MARKS.items():
        some = [point for point in points if name in point.chosen]
        axes.scatter(
            [p.nfe for p in some], [p.fid for p in some], s=size, marker=marker, facecolors="none",
            edgecolors=colour, linewidths=1.3, label=label,
        )  # fmt: skip
    if "published" in best:
        line = best["published"]
        axes.scatter(
            [line["nfe"]],
            [line["fid_again"]],
            s=40,
            marker="x",
            color=style.INK,
            label=f"{line['variant']}'s, published",
        )
    curves.log(axes, "x")
    curves.log(axes, "y")
    axes.set(xlabel="network evaluations per sample", ylabel="FID of the trial")
    style.legend_above(axes, columns=4)
    return figure
