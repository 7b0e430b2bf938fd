"""The FIDs by which checkpoints were chosen, against training steps: on few samples, and in no table."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from pipeline.reporting import curves, style
from pipeline.reporting.checkpoints import HOW, judged
from pipeline.reporting.figure_entry import Shown, keep

Choices = Mapping[str, Mapping[str, Any]]


def shown(folder: Path, artifacts: Path, networks: Sequence[str]) -> Iterator[Shown]:
    """The figure; none where no checkpoint was chosen."""
    found = judged(artifacts, networks)
    if not found:
        return
    caption = (
        f"FID of each network that a training kept, on {_counts(found)} samples by its variant's sampler, "
        "against the training images. The table is of the one with the lowest (hollow), on other samples: "
        "the lowest of many is too low, and FIDs on other numbers of samples are not compared."
    )
    made = keep(draw(found), folder, "selection")
    yield Shown("FID against training steps", caption, "dvc repro generate", (made,))


@style.house
def draw(found: Choices) -> Figure:
    """A line per network, of that kind of samples which has its lowest FID, and a hollow mark there.

    Args:
        found: see `checkpoints.judged`.
    """
    figure = style.figure(3.2)
    axes = figure.subplots()
    for place, (network, about) in enumerate(found.items()):
        points = {p["step"]: p[about["kind"]] for p in about["points"] if p[about["kind"]] is not None}
        colour, dashes = (cycle[place % len(cycle)] for cycle in (style.CYCLE, style.DASHES))
        label = f"{network}, {HOW[about['kind']]}"
        axes.plot(list(points), list(points.values()), ".", color=colour, linestyle=dashes, label=label)
        chosen = about["step"], points[about["step"]]
        axes.scatter(*chosen, s=70, facecolors="none", edgecolors=style.INK, zorder=4)
    curves.log(axes, "y")
    axes.set(xlabel="training steps", ylabel=f"FID (N={_counts(found)})", xlim=(0, None))
    style.legend_above(axes, columns=2)
    return figure


def _counts(found: Choices) -> str:
    return " or ".join(f"{n:,}" for n in sorted({about["num_samples"] for about in found.values()}))
