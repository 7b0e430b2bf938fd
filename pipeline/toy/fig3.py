"""Figure 3: samples of the mixture by exact scores, on both of the ladders that the paper states.

With step_size 0.1, section 4.3's ladder from 10 to 0.1 fails: level i steps by alpha = step_size sigma_i^2 /
sigma_L^2 = 10 sigma_i^2, so that far from the modes, where the score is -x / sigma_i^2 or nearly, x becomes
(1 - alpha / (2 sigma_i^2)) x = -4 x at every step. Appendix B.1's, from 20 to 1, gives 0.95 x.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.ncsn.noise import geometric_sigmas
from pipeline.ncsn.rng import SampleNoise
from pipeline.ncsn.sampler import sample
from pipeline.ncsn.samplers.langevin import Langevin, langevin
from pipeline.toy.mixture import HALF_WIDTH, MEANS, Array, Noisy, mixture

STEP_SIZE, LEVELS, STEPS_PER_LEVEL, STEPS = 0.1, 10, 100, 1_000
LADDER, FAILING_LADDER = (20.0, 1.0), (10.0, 0.1)
"""Largest and smallest sigma, by appendix B.1 and by section 4.3."""
ANNEALED = Langevin(STEP_SIZE, STEPS_PER_LEVEL, convention="paper")


@dataclass(frozen=True)
class SamplePanel:
    """A method's samples."""

    name: str
    """Such as 'annealed_released'."""
    samples: Array
    """(n, 2)."""
    fraction: float
    """The part of the samples in the mode of weight 0.8."""
    spread: float
    """Root mean square distance to the own mode over sqrt(2): the standard deviation, 1 for p itself."""


@dataclass(frozen=True)
class Divergence:
    """How annealed Langevin dynamics fails on section 4.3's ladder."""

    name: str
    """As the panel's that succeeds."""
    sizes: Array
    """(finite,): the largest coordinate of any sample after each iteration, while all are finite."""

    @property
    def finite(self) -> int:
        """Iterations after which every sample was still finite, of LEVELS x STEPS_PER_LEVEL."""
        return len(self.sizes)

    @property
    def level(self) -> int:
        """The level, from 1, in which the next iteration lies: where the first sample was lost."""
        return self.finite // STEPS_PER_LEVEL + 1


def panels(*, num_samples: int, seed: int) -> tuple[SamplePanel, ...]:
    """Exact samples, those of Langevin dynamics, and of annealed ones in both noisy laws."""
    exact = mixture().sample(num_samples, torch.Generator().manual_seed(seed))
    return (
        _panel("exact", exact),
        _panel("langevin", _langevin(num_samples, seed)),
        _panel("annealed_convolution", _annealed(num_samples, seed, "convolution")),
        _panel("annealed_released", _annealed(num_samples, seed, "released")),
    )


def divergences(*, num_samples: int, seed: int) -> tuple[Divergence, ...]:
    """The same annealed dynamics on section 4.3's ladder, followed until a level has lost a sample."""
    return (
        Divergence("annealed_convolution", _sizes(num_samples, seed, "convolution")),
        Divergence("annealed_released", _sizes(num_samples, seed, "released")),
    )


def _langevin(num_samples: int, seed: int) -> Tensor:
    rng, start = _start(num_samples, seed)
    clean = torch.zeros(())
    return langevin(mixture().score, start, rng, sigma=clean, step_size=STEP_SIZE, steps=STEPS, convention="paper")


def _annealed(num_samples: int, seed: int, noisy: Noisy) -> Tensor:
    rng, start = _start(num_samples, seed)
    sigmas = geometric_sigmas(*LADDER, LEVELS)
    return sample(ANNEALED, mixture(noisy).score, sigmas, rng, denoise=False, start=start)


def _sizes(num_samples: int, seed: int, noisy: Noisy) -> Array:
    rng, start = _start(num_samples, seed)
    sizes: list[Tensor] = []

    def watched(x: Tensor, sigma: Tensor) -> Tensor:
        sizes.append(x.abs().max())
        return mixture(noisy).score(x, sigma)

    for x in ANNEALED.levels(watched, geometric_sigmas(*FAILING_LADDER, LEVELS), rng, start=start):
        last = x.abs().max()
        if not last.isfinite():
            break
    after = torch.stack([*sizes[1:], last])
    return after[: int(after.isfinite().long().cumprod(0).sum())].numpy()


def _start(num_samples: int, seed: int) -> tuple[SampleNoise, Tensor]:
    rng = SampleNoise(seed, range(num_samples), (2,))
    return rng, HALF_WIDTH * (2 * rng.uniform() - 1)


def _panel(name: str, samples: Tensor) -> SamplePanel:
    mode = mixture().mode(samples)
    deviation = samples - torch.tensor(MEANS)[mode]
    return SamplePanel(
        name=name,
        samples=samples.numpy(),
        fraction=float(mode.double().mean()),
        spread=float(deviation.square().mean().sqrt()),
    )
