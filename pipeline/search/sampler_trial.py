"""Trial of the sampler search: samples of a trained network, judged at each rung."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from pipeline.data.dataset import open_dataset
from pipeline.generate.draw import Shape, draw, single_threaded
from pipeline.metrics.features import FeatureSpace, load_space
from pipeline.metrics.fid import Moments, distance, load_moments, moments
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.networks import conditional_on_levels
from pipeline.ncsn.prior import Law
from pipeline.ncsn.sampler import Sampler
from pipeline.ncsn.score import Score
from pipeline.search import Budget, RungMetrics
from pipeline.search.records import SHOWN, Settings
from pipeline.search.sampler_space import Proposals
from pipeline.training.checkpoints import load_network


@dataclass(frozen=True)
class SamplerSetup:
    """What all trials have in common."""

    network: Score
    trained: Ladder
    """The ladder that the network was trained on."""
    shape: Shape
    features: FeatureSpace
    reference: Moments
    """Of the images that searches judge by, see docs/explanation/sampler_search.md."""
    law: Law
    """Of the training images, where a sampler starts at the data's moments."""
    budget: Budget
    """Its rungs are numbers of samples; its seed is that of the samples too."""
    max_nfe: int
    """Network evaluations for each sample, the last denoising included."""
    kinds: Sequence[str]
    device: str = "cpu"

    @classmethod
    def read(cls, artifacts: Path, network: str, trained: Ladder, *, device: str = "cpu", **rest: Any) -> Self:
        """From the files of the stages; `rest` are the fields that no file holds."""
        data, features = open_dataset(artifacts / "data"), load_space(artifacts / "features")
        train = data.split("train")
        return cls(
            network=load_network(artifacts / "models" / network),
            trained=trained,
            shape=train.shape[1:],
            features=features.on(device),
            reference=load_moments(artifacts / "features", "search"),
            law=Law.of(train),
            device=device,
            **rest,
        )

    def proposals(self) -> Proposals:
        """What may be tried within the budget."""
        return Proposals(self.trained, self.max_nfe, self.kinds, conditional_on_levels(self.network))


def trial(settings: Settings, setup: SamplerSetup) -> Iterator[RungMetrics]:
    """Draw samples and, at each rung, measure the FID of all drawn so far.

    Yields:
        fid (denoised), fid_raw (without the last denoising, an evaluation less), samples, nfe (counted, of
        those denoised) and the sampler as it was used, with the first samples, once for each rung.
    """
    sampler = setup.proposals().sampler(settings)
    return measured(sampler, setup, setup.network, setup.budget.seed)


def measured(sampler: Sampler, setup: SamplerSetup, network: Score, seed: int) -> Iterator[RungMetrics]:
    """The same of any sampler, on any network and seed."""
    single_threaded()
    if isinstance(network, torch.nn.Module):
        network.to(setup.device)
    seen: dict[str, list[np.ndarray]] = {"denoised": [], "raw": []}
    first_samples = np.zeros((0, *setup.shape), np.uint8)
    for first, last in zip((0, *setup.budget.rungs), setup.budget.rungs, strict=False):
        drawn = draw(
            network,
            sampler,
            seed=seed,
            indices=range(first, last),
            shape=setup.shape,
            device=setup.device,
            law=setup.law,
        )
        first_samples = first_samples if len(first_samples) else drawn.denoised[:SHOWN]
        fids = {kind: _fid(some, getattr(drawn, kind), setup) for kind, some in seen.items()}
        found = {
            "fid": fids["denoised"],
            "fid_raw": fids["raw"],
            "samples": last,
            "nfe": drawn.nfe["denoised"],
        }
        yield RungMetrics({**found, **_numbers(sampler)}, first_samples)


def _fid(seen: list[np.ndarray], images: np.ndarray, setup: SamplerSetup) -> float:
    """Of these images and those whose features were seen before, which these join."""
    seen.append(setup.features.features(images))
    return distance(moments(np.concatenate(seen)), setup.reference)


def _numbers(sampler: Sampler) -> dict[str, float]:
    plain = {**sampler.ladder.plain(), **sampler.options}
    return {name: value for name, value in plain.items() if not isinstance(value, str)}
