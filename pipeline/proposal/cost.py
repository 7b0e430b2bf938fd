"""How long a preset will take: a few steps of each network are timed, and summed up over what is planned."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch

from pipeline.environment import cores
from pipeline.metrics.features import FeatureKind
from pipeline.metrics.features.classifier import Classifier, train_classifier
from pipeline.metrics.features.rotations import QUARTERS, Rotations
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.nfe import cost
from pipeline.ncsn.sampler import SamplerSettings
from pipeline.params import Params
from pipeline.params.noise import NoiseLevels
from pipeline.proposal.look import Facts
from pipeline.training.loop import train
from pipeline.training.task import Task

TIMED = 4
"""Steps that are timed, the first of which is left out."""
BATCH = 16
START_S = 8.0
"""Start and end of a stage: imports, Ray, hashes."""
GRADIENT = 3
"""A gradient with its evaluation over an evaluation."""
FRONT = 6
"""Samplers that `tune_sampler` draws again."""
Seconds = Mapping[str, float]


@dataclass(frozen=True)
class Speed:
    """Seconds for an image on one thread, or on the GPU."""

    step: Seconds
    """Of training, by network."""
    evaluation: Seconds
    """Of the network, by network."""
    features: float
    """Of training the feature space, once over."""


def measure(params: Params, facts: Facts, ladder: Ladder) -> Speed:
    """Train each network of a preset for a few steps, and evaluate it.

    Args:
        ladder: the analytic one, for all networks: the levels change little of the time.
    """
    tried = {name: _network(params, facts, ladder, name) for name in params.networks}
    steps, evaluations = ({name: both[place] for name, both in tried.items()} for place in (0, 1))
    return Speed(steps, evaluations, _features(params.features, facts))


def _network(params: Params, facts: Facts, ladder: Ladder, name: str) -> tuple[float, float]:
    short = {
        "batch_size": BATCH,
        "micro_batches": 1,
        "checkpoint_every": TIMED,
        "log_every": TIMED,
        "snapshot_every": 0,
    }
    task = Task.build(
        params.recipes[name].model_copy(update={"steps": TIMED}),
        params.train.model_copy(update=short),
        sigmas=ladder.sigmas(),
        image_shape=facts.images.shape[1:],
        data_sha256="",
    )
    events, times = train(task, facts.images, device=facts.device), []
    for _ in range(TIMED):
        times.append(_seconds(lambda: next(events)))
    network = next(train(replace(task, steps=1), facts.images, device=facts.device)).state.network.eval()
    x = torch.rand(BATCH, *facts.images.shape[1:], device=facts.device)
    sigma = ladder.sigmas()[:1].expand(BATCH).to(facts.device)
    with torch.inference_mode():
        evaluated = median([_seconds(lambda: float(network(x, sigma).sum())) for _ in range(TIMED)][1:])
    return median(times[1:]) / BATCH, evaluated / BATCH


def _seconds(call: Callable[[], object]) -> float:
    threads, begun = torch.get_num_threads(), time.perf_counter()
    torch.set_num_threads(1)
    try:
        call()
    finally:
        torch.set_num_threads(threads)
    return time.perf_counter() - begun


def _features(settings: FeatureKind, facts: Facts) -> float:
    """Of the small classifier, on labels or on rotations; 0 of another kind."""
    if not isinstance(settings, Classifier | Rotations):
        return 0.0
    images = facts.images[: 4 * settings.batch_size]
    labels = np.arange(len(images)) % 2
    tried = Classifier(settings.width, 1, min(settings.batch_size, len(images)), settings.lr, 0, 0.0)
    return _seconds(lambda: train_classifier((images, labels), tried)) / len(images)


def estimate(params: Params, facts: Facts, ladder: Ladder, speed: Speed) -> dict[str, float]:
    """Seconds by stage; what its start costs is `starts`."""
    at_once = 1 if facts.device == "cuda" else min(params.compute.workers, cores())
    stages = 7 + 2 * len(params.rows) + len(params.networks)
    spent = {
        "features": _epochs(params.features) * len(facts.images) * speed.features,
        "tune_noise": _tune_noise(params, ladder, speed) / at_once,
        "train": _train(params, speed) / at_once,
        "tune_sampler": _tune_sampler(params, speed) / at_once,
        "generate": _generate(params, ladder, speed) / at_once,
        "evaluate": _evaluate(params, speed),
        "frontier": _frontier(params, speed) / at_once,
    }
    return spent | {"starts": START_S * stages}


def _epochs(settings: FeatureKind) -> int:
    """Passes over the training images."""
    if isinstance(settings, Rotations):
        return QUARTERS * settings.epochs
    return settings.epochs if isinstance(settings, Classifier) else 0


def _train(params: Params, speed: Speed) -> float:
    steps = {name: params.recipes[name].steps or params.train.steps for name in params.networks}
    return sum(count * params.train.batch_size * speed.step[name] for name, count in steps.items())


def _tune_noise(params: Params, ladder: Ladder, speed: Speed) -> float:
    """All trials to the first rung, and one in `reduction_factor` from each to the next."""
    tune, spent, trials, before = params.tune_noise, 0.0, float(params.tune_noise.num_trials), 0
    for rung in tune.rungs:
        trained = (rung - before) * tune.batch_size * speed.step[tune.network]
        spent += trials * (trained + tune.num_samples * tune.max_nfe * speed.evaluation[tune.network])
        trials, before = trials / tune.reduction_factor, rung
    return spent


def _tune_sampler(params: Params, speed: Speed) -> float:
    """The trials of each budget, and what is drawn again on further seeds."""
    tune, samples, trials, before = params.tune_sampler, 0.0, float(params.tune_sampler.num_trials), 0
    for rung in tune.rungs:
        samples += trials * (rung - before)
        trials, before = trials / tune.reduction_factor, rung
    again = tune.repeats * tune.rungs[-1] * tune.max_nfe[-1] * FRONT
    return (samples * sum(tune.max_nfe) + again) * speed.evaluation[tune.network]


def _generate(params: Params, ladder: Ladder, speed: Speed) -> float:
    count = params.generate.num_samples * params.generate.sample_sets
    return sum(count * _nfe(params, row, ladder) * speed.evaluation[name] for row, name in params.rows.items())


def _nfe(params: Params, row: str, ladder: Ladder) -> int:
    """Evaluations for a sample of a row; of a searched one the most that it may spend."""
    sampler, noise = params.sampler[row], params.noise[params.rows[row]]
    if not isinstance(sampler, SamplerSettings):
        return params.tune_sampler.max_nfe[-1]
    own = Ladder.read(noise.kwargs()) if isinstance(noise, NoiseLevels) else ladder
    return cost(sampler.on(own))


def _evaluate(params: Params, speed: Speed) -> float:
    """The likelihood, the only measure that is dear; the network ncsn has none."""
    each = params.evaluate.likelihood.num_images * 4 * (params.evaluate.likelihood.num_levels - 1) * GRADIENT
    unconditional = [n for n in params.rows.values() if not params.recipes[n].network.conditional_on_levels]
    return sum(each * speed.evaluation[name] for name in unconditional)


def _frontier(params: Params, speed: Speed) -> float:
    """Its kinds are those of tune_sampler and three more."""
    tune = params.frontier
    return 7 * sum(tune.nfe) * tune.num_samples * speed.evaluation[tune.network]
