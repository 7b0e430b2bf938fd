"""Trial of `tune_noise`: a short training on a noise range, judged by the samples it gives.

In one process it trains in one go. In segments, each from a checkpoint to a rung, it trains on several
workers (`noise_workers`), or from another trial's weights (`pbt`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipeline.files import read_json
from pipeline.generate.draw import draw, single_threaded
from pipeline.metrics.features import FeatureSpace
from pipeline.metrics.fid import Moments, distance, moments, standard_error
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.kinds import make, plain
from pipeline.ncsn.networks import make_network
from pipeline.ncsn.prior import Law
from pipeline.ncsn.sampler import Sampler, SamplerSettings
from pipeline.ncsn.samplers.langevin import Langevin
from pipeline.search import Budget, RungMetrics
from pipeline.search.log_normal import LogNormal, NoiseRange, parts, read_noise_range
from pipeline.search.records import SHOWN, Settings
from pipeline.training.allreduce import rank_and_workers
from pipeline.training.checkpoints import restore, save
from pipeline.training.loop import train
from pipeline.training.state import TrainingState, fresh
from pipeline.training.task import Task, network_arguments

if TYPE_CHECKING:
    from pipeline.params.training import Recipe
    from pipeline.search.noise_workers import Team


@dataclass(frozen=True)
class NoiseSetup:
    """What all trials have in common."""

    recipe: "Recipe"
    """The network's entry in `recipes`."""
    full_steps: int
    """Optimiser steps of the full training, for the moving average."""
    images: np.ndarray
    """The train split, uint8 (N, C, H, W)."""
    features: FeatureSpace
    reference: Moments
    """Of the images to judge by; the stage's are those of docs/explanation/sampler_search.md."""
    budget: Budget
    """Its rungs are optimiser steps; its seed is that of training and samples too."""
    batch_size: int
    num_samples: int
    """Samples behind each FID."""
    max_nfe: int
    """Network evaluations for each of them."""
    micro_batches: int = 1
    """Fixed parts of a batch, see `train.micro_batches`."""
    drawn_by: SamplerSettings | None = None
    """How a trial's samples are drawn; None: see `sampler`."""
    device: str = "cpu"
    given: Mapping[str, float] = field(default_factory=dict)
    """What all noise ranges share: the ladder that is sampled on, where the law of sigma is searched."""

    def identity(self) -> dict[str, object]:
        """What a trial's metrics follow from: the last rung too, by which the moving average and the learning
        rate are scaled. So a search with another last rung measures all again."""
        return {**vars(self), "steps": self.budget.rungs[-1]}

    def read(self, settings: Settings) -> NoiseRange:
        """The noise range of a trial's settings."""
        return read_noise_range({**self.given, **settings})

    def task(self, noise_range: NoiseRange) -> Task:
        """The short training on a noise range.

        Its moving average spans the same fraction of the training as the full one's: at the full rate, a
        short training's average would still be full of its first weights.
        """
        steps = self.budget.rungs[-1]
        ladder, law = parts(noise_range)
        recipe = self.recipe
        return Task(
            network=network_arguments(recipe.network, ladder.sigmas(), self.images.shape[1:]),
            loss=make("losses", plain(recipe.loss) | law),
            optimizer=recipe.optimizer,
            schedule=recipe.schedule,
            ema=recipe.ema.shortened(self.full_steps, steps),
            dequantise=recipe.dequantise,
            flip=recipe.flip,
            steps=steps,
            batch_size=self.batch_size,
            micro_batches=self.micro_batches,
            checkpoint_every=steps,
            log_every=steps,
            seed=self.budget.seed,
            data_sha256="",  # names no run: a trial is not resumed
        )

    def sampler(self, noise_range: NoiseRange) -> Sampler:
        """`drawn_by` on the trial's noise range. By default annealed Langevin dynamics on its ladder within the
        budget, the step by technique 4; where there is no ladder, see `LogNormal.sampler`.

        Raises:
            UserError: the ladder is longer than the budget of the default. It is not cut: it is also what is
                trained on.
        """
        if self.drawn_by:
            return self.drawn_by.on(parts(noise_range)[0])
        if isinstance(noise_range, LogNormal):
            return noise_range.sampler(self.max_nfe)
        if noise_range.num_levels > self.max_nfe - 1:
            raise UserError(
                f"{noise_range.num_levels} levels and denoising exceed tune_noise.max_nfe ({self.max_nfe}): "
                "raise it, or shorten the ladder"
            )
        return Langevin("analytic", (self.max_nfe - 1) // noise_range.num_levels).on(noise_range)


def trial(settings: Settings, setup: NoiseSetup, team: "Team | None" = None) -> Iterator[RungMetrics]:
    """Train on a noise range and, at each rung, measure FID on denoised samples of the averaged weights.

    Args:
        team: workers to train on instead of this process; they change no bit.

    Yields:
        See `judged`, once for each rung.
    """
    single_threaded()
    noise_range = setup.read(settings)
    setup.sampler(noise_range)
    if team:
        yield from team.rungs(noise_range, setup)
        return
    for event in train(setup.task(noise_range), setup.images, device=setup.device):
        if event.step in setup.budget.rungs:
            yield judged(event.state, event.loss, noise_range, setup)


def trial_again(settings: Settings, setup: NoiseSetup, **how: Any) -> Iterator[RungMetrics]:
    """The same on the seed that is among the settings."""
    seeded = replace(setup, budget=replace(setup.budget, seed=settings["seed"]))
    return trial({name: value for name, value in settings.items() if name != "seed"}, seeded, **how)


def judged(state: TrainingState, loss: float, noise_range: NoiseRange, setup: NoiseSetup) -> RungMetrics:
    """fid of the averaged weights' samples, its standard error from the choice of samples, steps, samples,
    nfe (counted) and loss; with the samples."""
    network = make_network(**state.task.network).to(setup.device).eval().requires_grad_(False)
    state.ema.copy_to(network)
    images, nfe = _samples(network, setup.sampler(noise_range), setup)
    features = setup.features.features(images)
    metrics = {
        "fid": distance(moments(features), setup.reference),
        "fid_se": standard_error(features, setup.reference),
        "steps": state.step,
        "samples": len(images),
        "nfe": nfe,
        "loss": loss,
    }
    return RungMetrics(metrics, images[:SHOWN])


def _samples(network: torch.nn.Module, sampler: Sampler, setup: NoiseSetup) -> tuple[np.ndarray, int]:
    drawn = draw(
        network,
        sampler,
        seed=setup.budget.seed,
        indices=range(setup.num_samples),
        shape=setup.images.shape[1:],
        device=setup.device,
        law=Law.of(setup.images) if sampler.start else None,
    )
    return drawn.denoised, drawn.nfe["denoised"]


@dataclass(frozen=True)
class Segment:
    """Part of a training: from step 0, or from a checkpoint, to a rung."""

    noise_range: NoiseRange
    until: int
    """The step to end with."""
    source: Path | None
    """The checkpoint to train on from, of this noise range or another; None: step 0."""
    target: Path | None
    """Where to save the last state; None: nothing trains on from it."""


def trained(segment: Segment, setup: NoiseSetup) -> RungMetrics | None:
    """Train alone or as one worker of torch.distributed's default group, save, and measure.

    Returns:
        What a trial yields at a rung; None on workers but the first, which alone saves and measures.

    Raises:
        UserError: the loss or the samples diverged, or `source` is damaged or missing.
    """
    task = setup.task(segment.noise_range)
    state = adopted(segment.source, task, setup.device) if segment.source else None
    for event in train(task, setup.images, state=state, device=setup.device):
        if event.step == segment.until and rank_and_workers(None)[0] == 0:
            found = judged(event.state, event.loss, segment.noise_range, setup)
            if segment.target:
                save(segment.target, event.state)
            return found
        if event.step == segment.until:
            break
    return None


def adopted(folder: Path, task: Task, device: str) -> TrainingState:
    """Checkpoint as the state of a task that may have another noise range: weights, their average, what the
    optimiser remembers, step and losses are the checkpoint's, the noise is the task's.

    Raises:
        UserError: the checkpoint is damaged or missing, or the network has weights for each level, and
            the levels differ.
    """
    sigmas = tuple(read_json(folder / "state.json")["task"]["network"]["sigmas"])
    if task.network["kind"] == "ncsn" and sigmas != task.network["sigmas"]:
        raise UserError("the network ncsn has weights for each level: it cannot continue with other levels.")
    state = fresh(task, device)
    restore(state, folder, sigmas=False)
    return state
