"""Population-based training of noise ranges: members train side by side, and at each rung the worst quarter
continues from the weights of the best, on a range near theirs.

M. Jaderberg et al., "Population Based Training of Neural Networks", arXiv 1711.09846: truncation selection,
and explore by perturbation with factors 0.8 and 1.2 (here 1.25, so that a step up undoes a step down).
Generations are synchronous. Each is a search of its own whose proposals are the members: decisions are a
function of the seed and of the generations before, so that it repeats and resumes as other searches do.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray

from pipeline.generate.draw import single_threaded
from pipeline.search import Range
from pipeline.search.algorithms import Proposer
from pipeline.search.noise_trial import NoiseSetup, Segment, trained
from pipeline.search.records import FAILED, STOPPED, OnTrial, Settings, TrialRecord

if TYPE_CHECKING:
    from pipeline.search.noise_workers import Team

FACTORS = (0.8, 1.25)
"""By which one of them each end and the length of a range is multiplied, within its bounds."""
PART = 4
"""One in this many copies, and is copied from."""

Search = Callable[..., list[TrialRecord]]
logger = logging.getLogger(__name__)


def member(settings: Settings, setup: NoiseSetup, scratch: Path, team: "Team | None" = None) -> Iterator[Any]:
    """A generation of a member: train from its parent's state to its rung.

    Args:
        settings: the noise range; `generation` and `member` from 1; `parent`, the member of the generation
            before whose state it trains on from.
        scratch: where states are kept until the search ends.
    """
    single_threaded()
    noise_range, generation = setup.read(settings), settings["generation"]
    setup.sampler(noise_range)
    last = generation == len(setup.budget.rungs)
    segment = Segment(
        noise_range,
        setup.budget.rungs[generation - 1],
        scratch / f"{generation - 1}-{settings['parent']}" if generation > 1 else None,
        None if last else scratch / f"{generation}-{settings['member']}",
    )
    yield team.trained(segment, ray.put(setup)) if team else trained(segment, setup)


def evolve(
    search: Search,
    setup: NoiseSetup,
    space: Mapping[str, Range],
    points: Sequence[Settings],
    on_trial: OnTrial | None = None,
) -> list[TrialRecord]:
    """Train `budget.num_trials` members over `budget.rungs`; `points` are the first, the others random.

    Args:
        search: `search.search` with all but what differs between generations.

    Returns:
        A record for each member in each generation, numbered through; `STOPPED` but in the last one.
    """
    size, rungs = setup.budget.num_trials, setup.budget.rungs
    whole = replace(setup.budget, algorithm="random", max_concurrent=size)  # so that none is stopped
    proposer = Proposer(space, points, whole)
    asked = [proposer.ask() or {} for _ in range(size)]
    members = [{**one, "generation": 1, "member": m, "parent": m} for m, one in enumerate(asked, 1)]
    records: list[TrialRecord] = []
    for generation, rung in enumerate(rungs, 1):
        if generation > 1:
            members = succeeded(records[-size:], space, setup.budget.seed, generation)
        numbered = _numbered((generation - 1) * size, generation == len(rungs))
        found = search(
            member,
            {name: Range.over([one[name] for one in members]) for name in members[0]},
            points=members,
            budget=replace(whole, rungs=(rung,)),
            follows=(vars(setup.budget), space, points),  # a member's parents: of this population alone
            on_trial=None if on_trial is None else (lambda r, n=numbered: on_trial(n(r))),
        )
        records += [numbered(record) for record in found]
    return records


def succeeded(records: Sequence[TrialRecord], space: Mapping[str, Range], seed: int, generation: int) -> list[Settings]:
    """The members of a generation, from those of the one before."""

    def fid(record: TrialRecord) -> tuple[float, int]:
        return (math.inf if record.status == FAILED else record.metrics["fid"], record.trial)

    ranked, count = sorted(records, key=fid), max(1, len(records) // PART)
    failed = {record.trial for record in records if record.status == FAILED}
    losers = {record.trial for record in ranked[-count:]} | failed
    donors = [record for record in ranked[:count] if record.trial not in failed] or ranked[:1]
    following = []
    for place, record in enumerate(records, 1):
        draws, donor, chosen = np.random.default_rng([seed, generation, place]), record, record.settings
        if record.trial in losers - {donors[0].trial}:
            donor = donors[int(draws.integers(len(donors)))]
            chosen = donor.settings | perturbed(donor.settings, space, draws)
            logger.info("member %d continues from member %d", place, donor.settings["member"])
        parent = donor.settings["member"]
        following.append({**chosen, "generation": generation, "member": place, "parent": parent})
    return following


def perturbed(settings: Settings, space: Mapping[str, Range], draws: np.random.Generator) -> Settings:
    """Each number of a noise range times one of `FACTORS`, within its bounds; one that is a logarithm, such
    as p_mean, plus that of the factor: exp(p_mean), the median of sigma, is what is multiplied."""
    found = {}
    for name, bounds in space.items():
        factor = FACTORS[int(draws.integers(len(FACTORS)))]
        value = settings[name] * factor if bounds.log else settings[name] + math.log(factor)
        value = min(max(value, bounds.lower), bounds.upper)
        found[name] = round(value) if isinstance(bounds.lower, int) else value
    return found


def _numbered(offset: int, last: bool) -> Callable[[TrialRecord], TrialRecord]:
    def numbered(record: TrialRecord) -> TrialRecord:
        status = record.status if last or record.status == FAILED else STOPPED
        return replace(record, trial=record.trial + offset, status=status)

    return numbered
