"""Frontier of samplers: FID against network evaluations, for every kind of sampler on one network.

All kinds have their levels between the ends of the ladder that the network was trained on, all end with the
denoising step, and each takes as many levels as a budget has room for.
"""

import csv
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pipeline import progress
from pipeline.files import sha256, write_json
from pipeline.generate.draw import Shape, draw, single_threaded
from pipeline.metrics.fid import Moments, distance, moments
from pipeline.ncsn import kinds
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.nfe import fitted
from pipeline.ncsn.sampler import Sampler, SamplerSettings
from pipeline.ncsn.score import Score

logger = logging.getLogger(__name__)

CSV = "frontier.csv"
COLUMNS = ("sampler", "nfe", "fid", "num_samples")
"""Of frontier.csv."""


@dataclass(frozen=True)
class FrontierPoint:
    """One sampler at one cost."""

    sampler: Sampler
    nfe: int
    """Network evaluations for each sample, counted, the last denoising included."""
    fid: float
    num_samples: int

    def row(self) -> tuple[str, int, float, int]:
        """The values of `COLUMNS`."""
        return self.sampler.kind, self.nfe, self.fid, self.num_samples


@dataclass(frozen=True)
class LeftOut:
    """A kind of sampler that there is no point of at a budget."""

    sampler: str
    budget: int
    reason: str


@dataclass(frozen=True)
class FrontierSetup:
    """What all points have in common."""

    network: Score
    trained: Ladder
    """Its ends are those of all ladders."""
    shape: Shape
    features: Callable[[np.ndarray], np.ndarray]
    reference: Moments
    num_samples: int
    shard_size: int
    seed: int
    rho: float
    """Of Karras's spacing, for the kinds that are best by it; the others have geometric ladders."""
    options: Mapping[str, Mapping[str, object]]
    """By kind, those settings that `SamplerSettings.compared` does not give."""
    workers: int = 1
    device: str = "cpu"


def frontier(setup: FrontierSetup, budgets: Sequence[int]) -> Iterator[FrontierPoint | LeftOut]:
    """The points, in the order of the kinds and budgets; what fails or is undefined is left out and logged.

    Args:
        budgets: network evaluations for each sample, the most that a point may cost.
    """
    asked = list(itertools.product(kinds.kinds("samplers"), budgets))
    for kind, budget in progress.reported("points of the frontier", asked, len(asked)):
        try:
            yield _measured(chosen(kind, setup, budget), setup)
        except UserError as error:
            logger.warning("%s within %d evaluations is left out: %s", kind, budget, error)
            yield LeftOut(kind, budget, str(error))


def write_frontier(folder: Path, found: Sequence[FrontierPoint | LeftOut], settings: Mapping[str, object]) -> None:
    """Write frontier.csv, and manifest.json: settings, each point's sampler, what was left out, the hash."""
    points = [point for point in found if isinstance(point, FrontierPoint)]
    with (folder / CSV).open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerows([COLUMNS, *(point.row() for point in points)])
    manifest = {
        **settings,
        "points": [{**point.sampler.plain(), "nfe": point.nfe, "fid": point.fid} for point in points],
        "left_out": [asdict(point) for point in found if isinstance(point, LeftOut)],
        "sha256": {CSV: sha256(folder / CSV)},
    }
    write_json(folder / "manifest.json", manifest)


def chosen(kind: str, setup: FrontierSetup, budget: int) -> Sampler:
    """The sampler of a kind with the most levels that cost at most `budget`, see `SamplerSettings.compared`.

    Raises:
        UserError: two levels are too much already, or the sampler refuses its ladder.
    """
    cls: type[SamplerSettings] = kinds.find("samplers", kind)
    own = setup.options.get(kind, {})

    def at(levels: int) -> Sampler:
        settings = kinds.make("samplers", {"kind": kind, **cls.compared(levels, setup.rho), **own})
        made: Sampler = settings.on(replace(setup.trained, num_levels=levels, rho=None))
        return made

    return fitted(at, budget)


def _measured(sampler: Sampler, setup: FrontierSetup) -> FrontierPoint:
    def shard(start: int) -> tuple[np.ndarray, int]:
        single_threaded()
        drawn = draw(
            setup.network,
            sampler,
            seed=setup.seed,
            indices=range(start, min(start + setup.shard_size, setup.num_samples)),
            shape=setup.shape,
            device=setup.device,
        )
        return drawn.denoised, drawn.nfe["denoised"]

    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(setup.workers) as pool:
            images, costs = zip(*pool.map(shard, range(0, setup.num_samples, setup.shard_size)), strict=True)
    finally:
        torch.set_num_threads(threads)
    fid = distance(moments(setup.features(np.concatenate(images))), setup.reference)
    return FrontierPoint(sampler, costs[0], fid, setup.num_samples)
