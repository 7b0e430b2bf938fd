"""What the search for a noise range found, in words: theory's choice, the papers' and its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.files import read_yaml


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
    ends = f"σ from {line['sigma_max']:.3g} to {line['sigma_min']:.3g} on {line['num_levels']} levels"
    return f"{ends}, FID {line['fid']:.3g}{again}" if "fid" in line else f"{ends}, failed"


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
