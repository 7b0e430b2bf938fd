"""What a network's evaluations buy: FID against their number, for every kind of sampler on one network.

All kinds have their levels between the ends of the ladder that the network was trained on, all end with the
denoising step, and each takes as many levels as a budget has room for.
"""

import csv
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.files import sha256, write_json
from pipeline.generate.draw import Shape, draw, single_threaded
from pipeline.metrics.fid import Moments, distance, moments
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.samplers.settings import KINDS, Ladder, Sampler
from pipeline.ncsn.score import Score
from pipeline.search import costs

logger = logging.getLogger(__name__)

Make = Callable[[Ladder, Ladder], Sampler]
"""From a geometric ladder and one of Karras's, both with the same ends and length."""
Options = Mapping[str, Mapping[str, Any]]


CSV = "frontier.csv"
COLUMNS = ("sampler", "nfe", "fid", "num_samples")
"""Of frontier.csv."""


@dataclass(frozen=True)
class Point:
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
class Setup:
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
    """Of Karras's spacing, which the solvers of the ODE have; the others have geometric ladders."""
    options: Options
    """By kind, the sampler's own."""
    workers: int = 1
    device: str = "cpu"


def kinds(options: Options) -> dict[str, Make]:
    """How each kind of sampler is made on a ladder.

    Langevin's step is technique 4's. Consistent sampling has the step sigma_L^2 (1 - gamma^2), the middle of
    its lower bound and of sigma_L^2: its levels then keep the law exactly around data that is a point.
    """

    def langevin(geometric: Ladder, _: Ladder) -> Sampler:
        return Sampler.analytic(geometric, **options["langevin"])

    def consistent(geometric: Ladder, _: Ladder) -> Sampler:
        sigmas = geometric.sigmas().tolist()
        step_lr = sigmas[-1] ** 2 * (1 - (sigmas[1] / sigmas[0]) ** 2)
        return Sampler("consistent", geometric, {"step_lr": step_lr})

    def corrected(geometric: Ladder, _: Ladder) -> Sampler:
        return Sampler("predictor_corrector", geometric, options["predictor_corrector"])

    def solver(kind: str) -> Make:
        return lambda _, karras: Sampler(kind, karras, options.get(kind, {}))

    own = {"langevin": langevin, "consistent": consistent, "predictor_corrector": corrected}
    return {kind: own.get(kind, solver(kind)) for kind in KINDS}


def frontier(setup: Setup, budgets: Sequence[int]) -> Iterator[Point | LeftOut]:
    """The points, in the order of the kinds and budgets; what fails or is undefined is left out, and told.

    Args:
        budgets: network evaluations for each sample, the most that a point may cost.
    """
    for kind, make in kinds(setup.options).items():
        for budget in budgets:
            try:
                yield _measured(fitted(make, setup, budget), setup)
            except UserError as error:
                logger.warning("%s within %d evaluations is left out: %s", kind, budget, error)
                yield LeftOut(kind, budget, str(error))


def write(folder: Path, found: Sequence[Point | LeftOut], settings: Mapping[str, Any]) -> None:
    """Write frontier.csv, and manifest.json: settings, each point's sampler, what was left out, the hash."""
    points = [point for point in found if isinstance(point, Point)]
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


def fitted(make: Make, setup: Setup, budget: int) -> Sampler:
    """The sampler of most levels that costs at most `budget`.

    Raises:
        UserError: two levels are too much already, or the sampler refuses its ladder.
    """

    def at(levels: int) -> Sampler:
        ends = setup.trained.sigma_max, setup.trained.sigma_min, levels
        return make(Ladder(*ends), Ladder(*ends, rho=setup.rho))

    return costs.fitted(at, budget)


def _measured(sampler: Sampler, setup: Setup) -> Point:
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
    return Point(sampler, costs[0], fid, setup.num_samples)
