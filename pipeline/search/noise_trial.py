"""A trial of `tune_noise`: a short training on a noise range, judged by the samples it gives."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipeline.generate.draw import draw, single_threaded
from pipeline.metrics.features import FeatureSpace
from pipeline.metrics.fid import Moments, distance, moments, standard_error
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.networks import make_network
from pipeline.ncsn.sampler import Sampler
from pipeline.ncsn.samplers.langevin import Langevin
from pipeline.search import Budget
from pipeline.search.log_normal import LogNormal, NoiseRange, parts, read
from pipeline.search.picture import picture
from pipeline.search.records import Settings
from pipeline.training.state import State
from pipeline.training.loop import train
from pipeline.training.task import Task

if TYPE_CHECKING:
    from pipeline.search.team import Team


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
    """Of the images to judge by; the stage's are those of docs/tuning_sampler.md."""
    budget: Budget
    """Its rungs are optimiser steps; its seed is that of training and samples too."""
    batch_size: int
    num_samples: int
    """Samples behind each FID."""
    max_nfe: int
    """Network evaluations for each of them."""
    microshards: int = 1
    """Fixed parts of a batch, see `train.microshards`."""
    device: str = "cpu"
    given: Mapping[str, Any] = field(default_factory=dict)
    """What all noise ranges share: the ladder that is sampled on, where the law of sigma is searched."""

    def read(self, settings: Settings) -> NoiseRange:
        """The noise range of a trial's settings."""
        return read({**self.given, **settings})

    def task(self, noise_range: NoiseRange) -> Task:
        """The short training on a noise range.

        Its moving average spans the same fraction of the training as the full one's: at the full rate, a
        short training's average would still be full of its first weights.
        """
        steps = self.budget.rungs[-1]
        rate = max(0.0, 1 - (1 - self.recipe["ema_rate"]) * self.full_steps / steps)
        ladder, law = parts(noise_range)
        changed = {"steps": None, "ema_rate": min(rate, self.recipe["ema_rate"])}
        return Task.build(
            {**self.recipe, **changed, "loss": {**self.recipe["loss"], **law}},
            {
                "steps": steps,
                "batch_size": self.batch_size,
                "microshards": self.microshards,
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

    def sampler(self, noise_range: NoiseRange) -> Sampler:
        """Annealed Langevin dynamics on the trial's ladder within the budget, its step by technique 4; where
        there is no ladder, see `LogNormal.sampler`.

        Raises:
            UserError: the ladder is longer than the budget. It is not cut: it is also what is trained on.
        """
        if isinstance(noise_range, LogNormal):
            return noise_range.sampler(self.max_nfe)
        if noise_range.num_levels > self.max_nfe - 1:
            raise UserError(
                f"{noise_range.num_levels} levels and denoising exceed tune_noise.max_nfe ({self.max_nfe}): "
                "raise it, or shorten the ladder"
            )
        return Langevin("analytic", (self.max_nfe - 1) // noise_range.num_levels).on(noise_range)


def trial(settings: Settings, setup: Setup, team: "Team | None" = None) -> Iterator[dict[str, Any]]:
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


def trial_again(settings: Settings, setup: Setup, **how: Any) -> Iterator[dict[str, Any]]:
    """The same on the seed that stands among the settings."""
    seeded = replace(setup, budget=replace(setup.budget, seed=settings["seed"]))
    return trial({name: value for name, value in settings.items() if name != "seed"}, seeded, **how)


def judged(state: State, loss: float, noise_range: NoiseRange, setup: Setup) -> dict[str, Any]:
    """fid of the averaged weights' samples, its standard error from the choice of samples, steps, samples,
    nfe (counted), loss and a picture."""
    network = make_network(**state.task.network).to(setup.device).eval().requires_grad_(False)
    state.ema.copy_to(network)
    images, nfe = _samples(network, setup.sampler(noise_range), setup)
    features = setup.classifier.features(images)
    return {
        "fid": distance(moments(features), setup.reference),
        "fid_se": standard_error(features, setup.reference),
        "steps": state.step,
        "samples": len(images),
        "nfe": nfe,
        "loss": loss,
        **picture(images),
    }


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
