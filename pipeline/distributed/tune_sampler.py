"""The search for a sampler on a trained network: no training, only samples under a budget of evaluations.

The resource is the number of samples: a trial that goes on adds samples to those it has. It starts from the
ladder of the training with the step of technique 4 of NCSNv2 (arXiv 2006.09011, section 3.4).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.distributed.search import Budget, Range, search
from pipeline.distributed.shards import Shape, draw, single_threaded
from pipeline.distributed.trials import Record, Settings, best
from pipeline.errors import UserError
from pipeline.metrics.space.features import FeatureSpace
from pipeline.metrics.space.fid import Moments, distance, moments
from pipeline.ncsn.networks import NCSN
from pipeline.ncsn.score import Score
from pipeline.samplers.settings import Ladder, Sampler

Rules = Mapping[str, Mapping[str, Any]]
"""params.yaml's section `sampler`: by variant, the rule and its numbers."""


@dataclass(frozen=True)
class Setup:
    """What all trials have in common."""

    network: Score
    trained: Ladder
    """The ladder that the network was trained on."""
    shape: Shape
    classifier: FeatureSpace
    reference: Moments
    """Moments of the train split's features."""
    budget: Budget
    """Its rungs are numbers of samples; its seed is that of the samples too."""
    max_nfe: int
    """Network evaluations for each sample, the last denoising included."""
    device: str = "cpu"

    def sampler(self, settings: Settings) -> Sampler:
        """The sampler of a proposal: the step is a multiple of technique 4's on the proposal's own ladder.

        Levels beyond the budget, num_levels * steps_per_level + 1 <= max_nfe, are cut off the proposal.
        """
        steps = min(int(settings["steps_per_level"]), (self.max_nfe - 1) // 2)
        levels = min(int(settings["num_levels"]), (self.max_nfe - 1) // steps)
        ladder = Ladder(settings["sigma_max"], settings["sigma_min"], levels)
        return Sampler.analytic(ladder, steps, ratio=settings["step_lr_ratio"])

    def start(self) -> Settings:
        """The analytic choice: the trained ladder, as many steps as the budget allows, ratio 1."""
        steps = max(1, (self.max_nfe - 1) // self.trained.num_levels)
        return {**self.trained.plain(), "steps_per_level": steps, "step_lr_ratio": 1.0}

    def conditional(self) -> bool:
        """Whether the network knows the levels of its training only, so that the ladder must stay."""
        return isinstance(self.network, NCSN)


@dataclass(frozen=True)
class Found:
    """What the search found."""

    records: list[Record]
    winner: Sampler
    compared: dict[str, dict[str, Any]]
    """`tuned` and `analytic`: their sampler, nfe, samples, fid and trial."""


def trial(settings: Settings, setup: Setup) -> Iterator[dict[str, float]]:
    """Draw samples and, at each rung, measure the FID of all drawn so far, denoised.

    Yields:
        fid, samples, nfe (counted) and the sampler as it was used, once for each rung.
    """
    single_threaded()
    sampler = setup.sampler(settings)
    seen: list[np.ndarray] = []
    for first, last in zip((0, *setup.budget.rungs), setup.budget.rungs, strict=False):
        drawn = draw(
            setup.network,
            sampler,
            seed=setup.budget.seed,
            indices=range(first, last),
            shape=setup.shape,
            device=setup.device,
        )
        seen.append(setup.classifier.features(drawn.denoised))
        fid = distance(moments(np.concatenate(seen)), setup.reference)
        yield {"fid": fid, "samples": last, "nfe": drawn.nfe["denoised"], **_numbers(sampler)}


def _numbers(sampler: Sampler) -> dict[str, float]:
    return {**sampler.ladder.plain(), **sampler.options}


def tune(
    setup: Setup,
    *,
    bounds: Mapping[str, Sequence[float]],
    resources: Mapping[str, float],
    on_trial: Callable[[Record], None] | None = None,
) -> Found:
    """Search for the sampler of the smallest FID within the budget, on the Ray that is connected.

    Args:
        bounds: of steps_per_level, of step_lr as a multiple of technique 4's, and of sigma_max, sigma_min and
            num_levels as multiples of the trained ladder's; widened to hold the analytic choice.

    Raises:
        UserError: every trial failed, a budget below 3 evaluations, or bounds that let the ladder leave the
            trained range.
    """
    if setup.max_nfe < 3:
        raise UserError(f"tune_sampler.max_nfe is {setup.max_nfe}: two levels and denoising take 3.")
    start = setup.start()
    records = search(
        trial,
        space(setup, bounds),
        metric="fid",
        budget=setup.budget,
        points=[start],
        shared={"setup": setup},
        resources=resources,
        on_trial=on_trial,
    )
    winner = best(records, "fid")
    compared = {"tuned": winner.line(), "analytic": records[0].line()}
    return Found(records, setup.sampler(winner.settings), compared)


def space(setup: Setup, bounds: Mapping[str, Sequence[float]]) -> dict[str, Range]:
    """The search space in the units of the sampler, holding the analytic choice.

    Raises:
        UserError: bounds that let the ladder leave the trained range or turn upside down.
    """
    start, trained = setup.start(), setup.trained
    if bounds["sigma_max"][1] > 1 or bounds["sigma_min"][0] < 1:
        raise UserError(
            "tune_sampler would sample at noise that the network was not trained on: keep sigma_max at most "
            "1 and sigma_min at least 1, in multiples of the trained ladder's."
        )
    ends = {
        "step_lr_ratio": bounds["step_lr"],
        "steps_per_level": bounds["steps_per_level"],
        "sigma_max": [bound * trained.sigma_max for bound in bounds["sigma_max"]],
        "sigma_min": [bound * trained.sigma_min for bound in bounds["sigma_min"]],
        "num_levels": [max(2, round(bound * trained.num_levels)) for bound in bounds["num_levels"]],
    }
    if setup.conditional():
        ends |= {name: [value, value] for name, value in trained.plain().items()}
    if ends["sigma_min"][1] >= ends["sigma_max"][0]:
        raise UserError(
            f"tune_sampler lets sigma_min reach {ends['sigma_min'][1]:.3g} and sigma_max fall to "
            f"{ends['sigma_max'][0]:.3g}: lower tune_sampler.sigma_min's upper bound."
        )
    return {name: Range(min(low, start[name]), max(high, start[name])) for name, (low, high) in ends.items()}


def settled(rules: Rules, ladders: Mapping[str, Ladder], tuned: Mapping[str, Sampler]) -> dict[str, Sampler]:
    """The sampler of every variant: annealed Langevin dynamics on its trained ladder, fixed as given or
    analytic; the one found; or another one, by its name, on levels of its own between the same ends.

    Args:
        tuned: the samplers found, by variant.

    Raises:
        UserError: a variant has the rule `tuned`, but another one's sampler was searched.
    """
    return {variant: _settle(variant, rule, ladders[variant], tuned) for variant, rule in rules.items()}


def _settle(variant: str, rule: Mapping[str, Any], ladder: Ladder, tuned: Mapping[str, Sampler]) -> Sampler:
    options = {key: value for key, value in rule.items() if key not in ("rule", "num_levels", "rho")}
    if rule["rule"] == "fixed":
        return Sampler.langevin(ladder, **options)
    if rule["rule"] == "analytic":
        return Sampler.analytic(ladder, **options)
    if rule["rule"] != "tuned":
        levels = Ladder(ladder.sigma_max, ladder.sigma_min, rule["num_levels"], rule["rho"])
        return Sampler(rule["rule"], levels, options)
    if variant not in tuned:
        raise UserError(
            f"sampler.{variant}.rule is `tuned`, but tune_sampler.variant is "
            f"{', '.join(tuned) or 'another'}: make them agree, or give the variant another rule."
        )
    return tuned[variant]
