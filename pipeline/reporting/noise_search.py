"""What the search for a noise range found, in pictures and words: of theory, of papers and its own."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.files import read_yaml
from pipeline.reporting import curves, style
from pipeline.reporting.figure_entry import Picture, Shown, keep
from pipeline.reporting.parallel import parallel

COMMAND = "dvc repro tune_noise"
TRIALS, BEST = "trials.csv", "best.yaml"
NAMES = {
    "sigma_max": "σ$_1$",
    "sigma_min": "σ$_L$",
    "num_levels": "levels",
    "p_mean": "P$_{mean}$",
    "p_std": "P$_{std}$",
    "fid": "FID",
}
"""Columns of trials.csv that are axes of the parallel coordinates, where the search has them."""
SETTINGS = {
    curves.NOISE_RANGE: (
        "the ends and the length of its ladder",
        "techniques 1 and 2 of NCSNv2 on this data set",
    ),
    curves.NOISE_LAW: (
        "the mean and the standard deviation of log σ in its loss",
        "EDM's law (arXiv 2206.00364, table 1) at this data set's spread",
    ),
}
"""What the trials differ in, and what the analytic choice is."""


def draw(folder: Path) -> None:
    """Draw a search's trials into trials.png and parallel.png beside them.

    Raises:
        UserError: trials.csv cannot be read.
    """
    search = _search(folder)
    made = curves.trials(curves.read_trials(folder / TRIALS, search), search)
    style.save(made, folder, "trials", vector=False)
    style.save(parallel(curves.read_rows(folder / TRIALS), NAMES), folder, "parallel", vector=False)


def shown(folder: Path, artifacts: Path) -> Iterator[Shown]:
    """Both figures for the page; of the first its place alone where no noise range was searched."""
    found = artifacts / "noise"
    search = _search(found)
    differ, analytic = SETTINGS[search]
    caption = (
        f"FID of every trial of `tune_noise`, a short training each, against {differ}. Trials stopped after "
        f"fewer steps (hollow) are not compared with the others. The analytic choice is {analytic}. FIDs are "
        f"of other samples than the table's and against other images.{side_by_side(found / BEST)}"
    )
    tried = curves.read_trials(found / TRIALS, search) if (found / TRIALS).exists() else []
    made = keep(curves.trials(tried, search), folder, "noise_range") if tried else Picture()
    yield Shown("FID against the noise range", caption, COMMAND, (made,))
    if tried:
        caption = (
            "Every trial of `tune_noise` as a line through its settings, coloured by its FID; thin and "
            "dashed where it was stopped after fewer steps."
        )
        made = keep(parallel(curves.read_rows(found / TRIALS), NAMES), folder, "parallel_noise")
        yield Shown("Noise range: every trial", caption, COMMAND, (made,))


def _search(folder: Path) -> curves.Search:
    """By the columns of trials.csv: of p_mean and p_std, or of ladders, as where there is none."""
    rows = curves.read_rows(folder / TRIALS) if (folder / TRIALS).exists() else []
    return curves.NOISE_LAW if rows and "p_mean" in rows[0] else curves.NOISE_RANGE


def side_by_side(path: Path) -> str:
    """The ranges of best.yaml, their FIDs and the verdict, to follow a sentence; empty without the file."""
    if not path.exists():
        return ""
    best = dict(read_yaml(path))
    verdict = best.pop("verdict", {})
    names: dict[int, list[str]] = {}
    for name, line in best.items():
        if name != "tuned":
            names.setdefault(line["trial"], []).append(name)
    others = [f"`{'`, `'.join(same)}`: {_range(best[same[0]])}" for same in names.values()]
    return f" Side by side: {'; '.join(others)}; found: {_range(best['tuned'])}.{_verdict(verdict)}"


def _range(line: Mapping[str, Any]) -> str:
    again = f" ({line['fid_again']:.3g} on {line['seeds']} further seeds)" if "seeds" in line else ""
    if "p_mean" in line:
        noise = f"log σ of mean {line['p_mean']:.3g} and standard deviation {line['p_std']:.3g}"
    else:
        noise = f"σ from {line['sigma_max']:.3g} to {line['sigma_min']:.3g} on {line['num_levels']} levels"
    return f"{noise}, FID {line['fid']:.3g}{again}" if "fid" in line else f"{noise}, failed"


def _verdict(verdict: Mapping[str, Any]) -> str:
    if "noise_of" not in verdict:
        return ""
    spread = ", ".join(f"{std:.2g} after {n}" for n, std in verdict.get("std_of_log_fid", {}).items())
    shown = f" Log FID's standard deviation over seeds, by steps: {spread}." if spread else ""
    return (
        f"{shown} The found range has {verdict['fid_ratio']:.3g} times the analytic choice's FID; up to "
        f"{verdict['equal_up_to']:.3g} times either way is noise of the {verdict['noise_of']}: "
        f"**{verdict['tuned_against_analytic']}**."
    )
