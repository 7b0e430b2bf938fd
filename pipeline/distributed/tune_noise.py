"""The search for a training noise ladder: short trainings, judged by the samples they give.

It starts from the analytic ladder (techniques 1 and 2 of NCSNv2, arXiv 2006.09011, sections 3.1 and 3.2) and
from the ladders that other variants are given, such as published ones.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.distributed.picture import picture
from pipeline.distributed.ranges import Compared, compare, tell
from pipeline.distributed.search import Budget, Kept, Range, search
from pipeline.distributed.shards import draw, single_threaded
from pipeline.distributed.trials import Record, Settings, best, write_csv, write_trials
from pipeline.errors import UserError
from pipeline.files import write_yaml
from pipeline.metrics.space.features import FeatureSpace
from pipeline.metrics.space.fid import Moments, distance, moments, standard_error
from pipeline.ncsn import noise
from pipeline.ncsn.networks import make_network
from pipeline.samplers.settings import Ladder, Sampler
from pipeline.training.loop import train
from pipeline.training.task import Task

Images = np.ndarray
"""uint8 (N, C, H, W)."""

Rules = Mapping[str, Mapping[str, Any]]
"""params.yaml's section `noise`: by variant, the rule and its numbers."""


@dataclass(frozen=True)
class Setup:
    """What all trials have in common."""

    recipe: Mapping[str, Any]
    """The variant's entry in `recipes`."""
    full_steps: int
    """Optimiser steps of the full training, for the moving average."""
    images: np.ndarray
    """The train split, uint8 (N, C, H, W)."""
    classifier: FeatureSpace
    reference: Moments
    """Moments of the train split's features."""
    budget: Budget
    """Its rungs are optimiser steps; its seed is that of training and samples too."""
    batch_size: int
    num_samples: int
    """Samples behind each FID."""
    max_nfe: int
    """Network evaluations for each of them."""
    device: str = "cpu"

    def task(self, ladder: Ladder) -> Task:
        """The short training on a ladder.

        Its moving average spans the same fraction of the training as the full one's: at the full rate, a
        short training's average would still be full of its first weights.
        """
        steps = self.budget.rungs[-1]
        rate = max(0.0, 1 - (1 - self.recipe["ema_rate"]) * self.full_steps / steps)
        return Task.build(
            {**self.recipe, "steps": None, "ema_rate": min(rate, self.recipe["ema_rate"])},
            {
                "steps": steps,
                "batch_size": self.batch_size,
                "microshards": 1,
                "determinism": "elastic",
                "precision": "float32",
                "compile": False,
                "checkpoint_every": steps,
                "log_every": steps,
                "seed": self.budget.seed,
            },
            sigmas=ladder.sigmas(),
            image_shape=self.images.shape[1:],
            data_sha256="",  # names no run: a trial is not resumed
        )

    def sampler(self, ladder: Ladder) -> Sampler:
        """Annealed Langevin dynamics on the trial's ladder within the budget, its step by technique 4.

        Raises:
            UserError: the ladder is longer than the budget. It is not cut: it is also what is trained on.
        """
        if ladder.num_levels > self.max_nfe - 1:
            raise UserError(
                f"{ladder.num_levels} levels and denoising exceed tune_noise.max_nfe ({self.max_nfe}): "
                "raise it, or shorten the ladder"
            )
        return Sampler.analytic(ladder, (self.max_nfe - 1) // ladder.num_levels)


@dataclass(frozen=True)
class Found:
    """What the search found; every ladder with its last metrics."""

    records: list[Record]
    winner: Ladder
    compared: Compared
    """`tuned`, `analytic` and the other starting points side by side."""

    def write(self, folder: Path) -> None:
        """Write best.yaml, the ladders compared and the verdict, trials.csv and rungs.csv, and repeats.csv if
        trials were repeated."""
        write_yaml(folder / "best.yaml", {**self.compared.lines, "verdict": self.compared.verdict})
        write_trials(folder, self.records)
        if self.compared.again:
            write_csv(folder / "repeats.csv", list(self._repeats()))

    def _repeats(self) -> Iterator[dict[str, Any]]:
        for number, some in self.compared.again.items():
            for record in some:
                seed = {"trial": number, "seed": record.settings["seed"]}
                yield from ({**seed, **{key: rung[key] for key in ("steps", "fid")}} for rung in record.rungs)


def trial(settings: Settings, setup: Setup) -> Iterator[dict[str, Any]]:
    """Train on a ladder and, at each rung, measure FID on denoised samples of the averaged weights.

    Yields:
        fid, its standard error from the choice of samples, steps, samples, nfe (counted), loss and a picture,
        once for each rung.
    """
    single_threaded()
    ladder = Ladder.read(settings)
    sampler, task = setup.sampler(ladder), setup.task(ladder)
    network = make_network(**task.network).to(setup.device).eval().requires_grad_(False)
    for event in train(task, setup.images, device=setup.device):
        if event.step in setup.budget.rungs:
            event.state.ema.copy_to(network)
            images, nfe = _samples(network, sampler, setup)
            features = setup.classifier.features(images)
            yield {
                "fid": distance(moments(features), setup.reference),
                "fid_se": standard_error(features, setup.reference),
                "steps": event.step,
                "samples": len(images),
                "nfe": nfe,
                "loss": event.loss,
                **picture(images),
            }


def trial_again(settings: Settings, setup: Setup) -> Iterator[dict[str, Any]]:
    """The same on the seed that stands among the settings."""
    ladder = {name: value for name, value in settings.items() if name != "seed"}
    return trial(ladder, replace(setup, budget=replace(setup.budget, seed=settings["seed"])))


def _samples(network: torch.nn.Module, sampler: Sampler, setup: Setup) -> tuple[np.ndarray, int]:
    drawn = draw(
        network,
        sampler,
        seed=setup.budget.seed,
        indices=range(setup.num_samples),
        shape=setup.images.shape[1:],
        device=setup.device,
    )
    return drawn.denoised, drawn.nfe["denoised"]


def analytic(images: np.ndarray, *, sigma_min: float, overlap: float) -> Ladder:
    """Techniques 1 and 2: the largest distance of two images, and levels that overlap by `overlap`.

    Args:
        images: uint8 (N, C, H, W); value v stands for v / 255.
    """
    sigma_max = noise.max_pairwise_distance(torch.from_numpy(np.array(images))) / 255
    levels = noise.num_levels(sigma_max, sigma_min, int(np.prod(images.shape[1:])), overlap)
    return Ladder(sigma_max, sigma_min, levels)


def settled(rules: Rules, images: np.ndarray) -> dict[str, Ladder]:
    """The ladders of the variants whose rule needs no search: as given, or analytic as computed."""
    made = {
        "fixed": lambda rule: Ladder.read(rule),
        "continuous": lambda rule: Ladder.read(rule),
        "analytic": lambda rule: analytic(images, sigma_min=rule["sigma_min"], overlap=rule["overlap"]),
    }
    return {variant: made[rule["rule"]](rule) for variant, rule in rules.items() if rule["rule"] in made}


def tune(
    setup: Setup,
    start: Ladder,
    others: Mapping[str, Ladder],
    *,
    bounds: Mapping[str, Sequence[float]],
    resources: Mapping[str, float],
    repeats: int = 0,
    on_trial: Callable[[Record], None] | None = None,
    kept: Kept | None = None,
) -> Found:
    """Search for the ladder of the smallest FID, on the Ray that is connected.

    Args:
        start: the analytic ladder, the first trial.
        others: more starting points by name; those equal to an earlier one are left out.
        bounds: of sigma_max, sigma_min and num_levels, as multiples of the analytic ladder's; widened where a
            starting point lies outside.
        repeats: seeds beside the search's own, on which the choices are trained again for the verdict; 0: it
            goes by the noise of the samples alone.
        kept: where trials are kept, see `search`.

    Raises:
        UserError: every trial failed, fewer trials than starting points, or bounds that let sigma_min reach
            sigma_max.
    """
    points = {"analytic": start, **others}
    unique = list(dict.fromkeys(points.values()))
    if setup.budget.num_trials < len(unique):
        raise UserError(
            f"tune_noise.num_trials ({setup.budget.num_trials}) is below the {len(unique)} starting points "
            f"(the analytic ladder and other variants'): raise it to at least {len(unique)}."
        )
    records = search(
        trial,
        space(start, unique, bounds, longest=setup.max_nfe - 1),
        metric="fid",
        budget=setup.budget,
        points=[ladder.plain() for ladder in unique],
        shared={"setup": setup},
        resources=resources,
        on_trial=on_trial,
        kept=kept,
    )
    winner = best(records, "fid")
    choices = {"tuned": winner} | {name: records[unique.index(ladder)] for name, ladder in points.items()}
    again = partial(_again, setup=setup, repeats=repeats, resources=resources, kept=kept)
    compared = compare(choices, again if repeats else None)
    tell(compared)
    return Found(records, Ladder.read(winner.settings), compared)


def _again(
    ladders: Sequence[Settings],
    setup: Setup,
    repeats: int,
    resources: Mapping[str, float],
    kept: Kept | None,
) -> list[list[Record]]:
    """The trials of these ladders on further seeds, none of them stopped: a search that proposes nothing."""
    seeds = range(setup.budget.seed + 1, setup.budget.seed + 1 + repeats)
    points = [{**ladder, "seed": seed} for ladder in ladders for seed in seeds]
    budget = replace(setup.budget, num_trials=len(points), max_concurrent=len(points), algorithm="random")
    values = {name: [point[name] for point in points] for name in points[0]}
    records = search(
        trial_again,
        {name: Range(min(some), max(some)) for name, some in values.items()},
        metric="fid",
        budget=budget,
        points=points,
        shared={"setup": setup},
        resources=resources,
        kept=kept,
    )
    return [records[start : start + repeats] for start in range(0, len(records), repeats)]


def space(
    start: Ladder, points: Sequence[Ladder], bounds: Mapping[str, Sequence[float]], *, longest: int
) -> dict[str, Range]:
    """The search space in the units of the ladder, holding every starting point.

    Args:
        longest: levels that the budget of evaluations has room for, where no starting point has more.
    """
    ranges = {}
    for name, (low, high) in bounds.items():
        centre, given = getattr(start, name), [getattr(point, name) for point in points]
        ends = [low * centre, high * centre]
        if name == "num_levels":
            ends = [max(2, min(longest, round(end))) for end in ends]
        ranges[name] = Range(min(ends[0], *given), max(ends[1], *given))
    if ranges["sigma_min"].upper >= ranges["sigma_max"].lower:
        raise UserError(
            f"tune_noise lets sigma_min reach {ranges['sigma_min'].upper:.3g} and sigma_max fall to "
            f"{ranges['sigma_max'].lower:.3g}: lower tune_noise.sigma_min's upper bound."
        )
    return ranges
