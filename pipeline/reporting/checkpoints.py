"""By what rule the checkpoints behind a row were chosen."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.selected_checkpoint import choice

LAST = "the last one"
HOW = {"raw": "without denoising", "denoised": "with denoising"}


def judged(artifacts: Path, networks: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """How each network was chosen, where one was: `points` (step, raw, denoised), step, kind, num_samples."""
    found = {network: choice(artifacts, network) for network in networks}
    return {network: about for network, about in found.items() if "points" in about}


def rule(artifacts: Path, networks: Sequence[str]) -> str:
    """The rule in words, with what it chose for each of a row's networks; "the last one" where none did."""
    found = list(judged(artifacts, networks).values())
    if not found:
        return LAST
    first = found[0]
    steps = ", ".join(f"step {about['step']:,} ({HOW[about['kind']]})" for about in found)
    seeds = ", ".join(str(about["seed"]) for about in found)
    return (
        f"lowest FID on {first['num_samples']:,} samples, with or without denoising, of "
        f"{len(first['points'])} snapshots: {steps}; samples from seed {seeds}, not the report's"
    )
