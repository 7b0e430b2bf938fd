"""Figures of the searches for noise levels and for a sampler, drawn from their files in artifacts/tune_*."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

from matplotlib.figure import Figure

from pipeline.files import read_yaml
from pipeline.ncsn.errors import UserError
from pipeline.reporting.figures import curves, style, trials
from pipeline.reporting.figures.style import FigureEntry, Picture, keep
from pipeline.reporting.figures.trials import NOISE_LAW, NOISE_RANGE, STEP_SIZE, TrialAxes, parallel

TUNE_NOISE, TUNE_SAMPLER = "tune_noise", "tune_sampler"
"""The stages, and their folders in artifacts/."""
TRIALS, PARETO, BEST = "trials.csv", "pareto.csv", "best.yaml"
NOISE_AXES = {
    "sigma_max": "σ$_1$",
    "sigma_min": "σ$_L$",
    "num_levels": "levels",
    "p_mean": "P$_{mean}$",
    "p_std": "P$_{std}$",
    "fid": "FID",
}
"""Columns of tune_noise's trials.csv that are axes of the parallel coordinates, where the search has them."""
SAMPLER_AXES = {
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
"""The same of tune_sampler's, where any trial has a value."""
NOISE_WORDS = {
    NOISE_RANGE: ("the ends and the length of its ladder", "techniques 1 and 2 of NCSNv2 on this data set"),
    NOISE_LAW: (
        "the mean and the standard deviation of log σ in its loss",
        "EDM's law (arXiv 2206.00364, table 1) at this data set's spread",
    ),
}
"""What the trials differ in, and what the analytic choice is."""
MARKS = {
    "analytic": ("D", style.INK, 40, "analytic choice"),
    "fewest_nfe": ("s", style.GREEN, 90, "fewest at the baseline's FID"),
    "knee": ("^", style.ORANGE, 130, "knee"),
    "lowest_fid": ("o", style.VERMILION, 150, "lowest FID"),
}
"""How the chosen trials are ringed: marker, colour, size, name."""


class ShownChoice(TypedDict, total=False):
    """Entry of a best.yaml: what was compared, and its FIDs."""

    trial: int
    network: str
    """Of the baseline of the sampler search."""
    sigma_max: float
    sigma_min: float
    num_levels: int
    p_mean: float
    p_std: float
    """Of log σ, in place of a ladder."""
    nfe: int
    fid: float
    """Missing where the trial failed."""
    fid_again: float
    seeds: int
    """Further seeds that `fid_again` is the mean of; missing without repeats."""
    reaches_baseline: bool


class SearchVerdict(TypedDict, total=False):
    """Verdict of a best.yaml; `noise_of` only of noise ranges, `denoising_*` only of samplers."""

    tuned_against_analytic: str
    fid_ratio: float
    equal_up_to: float
    std_of_log_fid: dict[int, float]
    """By the steps or samples behind an FID."""
    noise_of: str
    no_better_than: list[str]
    denoising_fid_ratio: float
    denoising_equal_up_to: float
    denoising_against_none: str


class SamplerBest(TypedDict):
    """best.yaml of tune_sampler."""

    analytic: ShownChoice
    lowest_fid: ShownChoice
    fewest_nfe: ShownChoice
    baseline: NotRequired[ShownChoice]
    verdict: SearchVerdict


def noise_figures(folder: Path, artifacts: Path) -> Iterator[FigureEntry]:
    """Figures of the trials of the noise search; a placeholder where it has not run."""
    found = artifacts / TUNE_NOISE
    path, command = found / TRIALS, f"dvc repro {TUNE_NOISE}"
    search = noise_search(path)
    differ, analytic = NOISE_WORDS[search]
    caption = (
        f"FID of every trial of `tune_noise`, a short training each, against {differ}. Trials stopped after "
        f"fewer steps (hollow) are not compared with the others. The analytic choice is {analytic}. FIDs are "
        f"of other samples than the table's and against other images.{side_by_side(found / BEST)}"
    )
    tried = trials.read_trials(path, search) if path.exists() else []
    made = keep(trials.trials(tried, search), folder, "noise_range") if tried else Picture()
    yield FigureEntry("FID against the noise range", caption, command, (made,))
    if tried:
        caption = (
            "Every trial of `tune_noise` as a line through its settings, coloured by its FID; thin and "
            "dashed where it was stopped after fewer steps."
        )
        made = keep(parallel(curves.read_rows(path), NOISE_AXES), folder, "parallel_noise")
        yield FigureEntry("Noise range: every trial", caption, command, (made,))


def noise_search(path: Path) -> TrialAxes:
    """Axes of the trials of a trials.csv: p_mean and p_std, or ladders, also without a file."""
    rows = curves.read_rows(path) if path.exists() else []
    return NOISE_LAW if rows and "p_mean" in rows[0] else NOISE_RANGE


def side_by_side(path: Path) -> str:
    """The ranges of best.yaml, their FIDs and the verdict, to follow a sentence; empty without the file."""
    if not path.exists():
        return ""
    best = dict(read_yaml(path))
    verdict: SearchVerdict = best.pop("verdict", {})
    lines: dict[str, ShownChoice] = best
    names: dict[int, list[str]] = {}
    for name, line in lines.items():
        if name != "tuned":
            names.setdefault(line["trial"], []).append(name)
    others = [f"`{'`, `'.join(same)}`: {_range(lines[same[0]])}" for same in names.values()]
    shown = _noise_verdict(verdict) if "noise_of" in verdict else ""
    return f" Side by side: {'; '.join(others)}; found: {_range(lines['tuned'])}.{shown}"


def _range(line: ShownChoice) -> str:
    again = f" ({line['fid_again']:.3g} on {line['seeds']} further seeds)" if "seeds" in line else ""
    if "p_mean" in line:
        noise = f"log σ of mean {line['p_mean']:.3g} and standard deviation {line['p_std']:.3g}"
    else:
        noise = f"σ from {line['sigma_max']:.3g} to {line['sigma_min']:.3g} on {line['num_levels']} levels"
    return f"{noise}, FID {line['fid']:.3g}{again}" if "fid" in line else f"{noise}, failed"


def _noise_verdict(verdict: SearchVerdict) -> str:
    equals = ", ".join(f"`{name}`" for name in verdict.get("no_better_than", ()))
    spread = ", ".join(f"{std:.2g} after {n}" for n, std in verdict.get("std_of_log_fid", {}).items())
    shown = f" Standard deviation of log FID between seeds, by steps: {spread}." if spread else ""
    return (
        f"{shown} The found range has {verdict['fid_ratio']:.3g} times the FID of the analytic choice; up to "
        f"{verdict['equal_up_to']:.3g} times either way is noise of the {verdict['noise_of']}: "
        f"**{verdict['tuned_against_analytic']}**.{f' It is no better than {equals}.' * bool(equals)}"
    )


def step_size_figure(folder: Path, artifacts: Path) -> FigureEntry:
    """FID against the step size of Langevin dynamics, in the trials of the sampler search."""
    caption = (
        "FID of every trial of `tune_sampler` by Langevin dynamics against the step size, its ratio to the "
        "analytic choice (technique 4 of NCSNv2) and the steps per level. Trials use samples and seeds that "
        "the table never uses; FIDs on fewer samples (hollow) are higher by construction and are not "
        "compared with full ones."
    )
    path, best = artifacts / TUNE_SAMPLER / TRIALS, artifacts / TUNE_SAMPLER / BEST
    # Of several budgets, the one whose analytic choice is compared.
    analytic = read_yaml(best)["analytic"]["trial"] if best.exists() else 1
    found = trials.read_trials(path, STEP_SIZE) if path.exists() else []
    made = keep(trials.trials(found, STEP_SIZE, analytic), folder, "step_size") if found else Picture()
    return FigureEntry("FID against step size", caption, f"dvc repro {TUNE_SAMPLER}", (made,))


@dataclass(frozen=True)
class ShownPoint:
    """Trial of the sampler search that was judged on all samples, as pareto.csv has it."""

    kind: str
    nfe: float
    fid: float
    on_front: bool
    chosen: tuple[str, ...]


def sampler_figures(folder: Path, artifacts: Path) -> Iterator[FigureEntry]:
    """FID against evaluations with the front, and every trial; none where no sampler was searched."""
    found, command = artifacts / TUNE_SAMPLER, f"dvc repro {TUNE_SAMPLER}"
    if not (found / PARETO).exists():
        return
    points, best = read_judged(found)
    caption = (
        "Every trial of `tune_sampler` that was judged on all samples: FID against network evaluations for "
        "each sample. On the line are those that no other beats in both. Ringed: the analytic choice "
        "(technique 4 of NCSNv2), the lowest FID, the knee (the point farthest below the chord of the "
        f"front's ends, in logarithms) and {_fewest(best)} (cross: the baseline), both measured "
        f"again on seeds of their own. {_sampler_verdict(best)} FIDs are of other samples than the "
        "table's and against other images."
    )
    made = keep(front(points, best), folder, "pareto")
    yield FigureEntry("Sampler search: FID against evaluations", caption, command, (made,))
    caption = (
        "Every trial of `tune_sampler` as a line through its settings, coloured by its FID; thin and dashed "
        "where it was stopped on fewer samples. A line passes over settings that its sampler does not have."
    )
    made = keep(parallel(curves.read_rows(found / TRIALS), SAMPLER_AXES), folder, "parallel")
    yield FigureEntry("Sampler search: every trial", caption, command, (made,))


def _fewest(best: SamplerBest) -> str:
    if best["fewest_nfe"].get("reaches_baseline", True):
        return "the cheapest that reaches the FID of the baseline"
    return "the lowest FID once more, since none reaches that of the baseline"


def _sampler_verdict(best: SamplerBest) -> str:
    verdict, seeds = best["verdict"], best["lowest_fid"]["seeds"]
    spread = ", ".join(f"{std:.2g} at {n}" for n, std in verdict["std_of_log_fid"].items())
    return (
        f"Standard deviation of log FID between seeds, by the number of samples: {spread}. On {seeds} "
        f"further seeds the lowest has {verdict['fid_ratio']:.3g} times the FID of the analytic choice;"
        f" up to {verdict['equal_up_to']:.3g} times either way is noise: "
        f"**{verdict['tuned_against_analytic']}**. With the last denoising its FID is "
        f"{verdict['denoising_fid_ratio']:.3g} times that without on the same samples; up to "
        f"{verdict['denoising_equal_up_to']:.3g} times is noise: "
        f"**{verdict['denoising_against_none']}**."
    )


def read_judged(folder: Path) -> tuple[list[ShownPoint], SamplerBest]:
    """Trials judged on all samples, in order of cost, and best.yaml."""
    try:
        points = [
            ShownPoint(
                r["sampler"],
                float(r["nfe"]),
                float(r["fid"]),
                r["on_front"] == "1",
                tuple(r["chosen"].split()),
            )
            for r in curves.read_rows(folder / PARETO)
        ]
    except (KeyError, ValueError) as error:
        command = f"dvc repro {TUNE_SAMPLER}"
        raise UserError(f"{folder / PARETO}: bad or missing column ({error}): run `{command}`.") from error
    best: SamplerBest = read_yaml(folder / BEST)
    return points, best


@style.house
def front(points: Sequence[ShownPoint], best: SamplerBest) -> Figure:
    """The trials by kind, their front as steps, what was chosen ringed, the baseline as a cross.

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
        axes.scatter([p.nfe for p in some], [p.fid for p in some], s=22, color=colour, marker=marker, label=kind)
    for name, (marker, colour, size, label) in MARKS.items():
        some = [point for point in points if name in point.chosen]
        axes.scatter(
            [p.nfe for p in some], [p.fid for p in some], s=size, marker=marker, facecolors="none",
            edgecolors=colour, linewidths=1.3, label=label,
        )  # fmt: skip
    if "baseline" in best:
        line = best["baseline"]
        label = f"baseline, on {line['network']}"
        axes.scatter([line["nfe"]], [line["fid_again"]], s=40, marker="x", color=style.INK, label=label)
    curves.log(axes, "x")
    curves.log(axes, "y")
    axes.set(xlabel="network evaluations per sample", ylabel="FID of the trial")
    style.legend_above(axes, columns=4)
    return figure
