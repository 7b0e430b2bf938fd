"""Sampler: a kind, settled on a ladder; and the base class of all kinds (`pipeline.ncsn.samplers`)."""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from . import kinds
from .errors import UserError
from .ladder import Ladder
from .prior import Law
from .rng import Noise
from .score import Score, denoise

__all__ = ["ANALYTIC", "Ladder", "Sampler", "SamplerSettings", "Tried", "denoised", "last", "sample"]

ANALYTIC = "langevin"
"""The kind of NCSN and NCSNv2, whose step technique 4 gives: what every search begins with."""
EDM_NFE = 35
"""Evaluations of EDM's samples of CIFAR-10 (arXiv 2206.00364), where the search of an ODE's solver begins."""
Start = Literal["data"]
"""'data': the Gaussian of the data's moments, at the first level (`pipeline.ncsn.prior`)."""
LEVELS = ("num_levels", "rho")
ENDS = ("sigma_max", "sigma_min")
"""The settings of a kind that are its ladder's."""


@dataclass(frozen=True)
class Sampler:
    """A kind of sampler on a ladder, with its options: all that samples follow from besides the network."""

    kind: str
    ladder: Ladder
    options: Mapping[str, Any]
    """The kind's own settings but for `LEVELS`, such as `step_size` and `steps_per_level` of `langevin`."""
    start: Start | None = None
    """None: the kind's own."""

    @classmethod
    def langevin(cls, ladder: Ladder, *, step_size: float, steps_per_level: int, convention: str | None = None) -> Self:
        """Annealed Langevin dynamics: the step eps at the last level, and steps T at each level."""
        options: dict[str, Any] = {"step_size": step_size, "steps_per_level": steps_per_level}
        return cls(ANALYTIC, ladder, options | ({"convention": convention} if convention else {}))

    @classmethod
    def analytic(cls, ladder: Ladder, steps_per_level: int, ratio: float = 1.0) -> "Sampler":
        """Annealed Langevin dynamics, its step by technique 4 of NCSNv2 (arXiv 2006.09011) times `ratio`."""
        given = {"kind": ANALYTIC, "step_size": "analytic", "steps_per_level": steps_per_level}
        settled: Sampler = kinds.make("samplers", given).on(ladder)
        scaled = {"step_size": settled.options["step_size"] * ratio}
        return replace(settled, options={**settled.options, **scaled})

    def plain(self) -> dict[str, Any]:
        """The settings as YAML holds them."""
        start = {"start": self.start} if self.start else {}
        return {"kind": self.kind, **self.ladder.plain(), **self.options, **start}

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `plain`.

        Raises:
            UserError: an unknown kind, a key is missing, or one is not the kind's.
        """
        known = {"kind", "start", *Ladder.__dataclass_fields__}
        options = {key: value for key, value in plain.items() if key not in known}
        found = cls(str(plain.get("kind")), Ladder.read(plain), options, plain.get("start"))
        found.settings()
        return found

    def settings(self) -> "SamplerSettings":
        """The instance of the kind, with its options and the ladder's."""
        cls = kinds.find("samplers", self.kind)
        own = {name: getattr(self.ladder, name) for name in LEVELS if name in cls.__dataclass_fields__}
        made: SamplerSettings = kinds.make("samplers", {"kind": self.kind, **own, **self.options})
        return made

    def levels(self, score: Score, rng: Noise, law: Law | None = None) -> Iterator[Tensor]:
        """The samples, (B, *shape), unclamped, once for each level; the last ones have noise sigma_L.

        Args:
            law: the data's, for the start 'data'; not used otherwise.

        Raises:
            UserError: options that the sampler refuses, or a start from a law that is not given.
        """
        sigmas = self.ladder.sigmas()
        return self.settings().levels(score, sigmas, rng, start=self._begin(sigmas, rng, law))

    def _begin(self, sigmas: Tensor, rng: Noise, law: Law | None) -> Tensor | None:
        if self.start is None:
            return None
        if self.start != "data" or law is None:
            raise UserError(f"the sampler starts at {self.start!r}: give it the data's law, pipeline.ncsn.prior.Law.")
        return law.draw(rng, float(sigmas[0]))

    def sample(self, score: Score, rng: Noise, *, denoise: bool, law: Law | None = None) -> Tensor:
        """Samples, (B, *shape), unclamped, with or without the last denoising step, which has no churn."""
        x = last(self.levels(score, rng, law))
        return denoised(score, x, self.ladder.sigmas()) if denoise else x


@dataclass(frozen=True)
class Tried:
    """A setting that the sampler search tries."""

    start: float
    """Theory's choice, where the search begins."""
    bounds: tuple[float, float] | None = None
    """Where params.yaml's `tune_sampler` has no bounds of this name."""


@dataclass(frozen=True)
class SamplerSettings(ABC):
    """Base class of the kinds in `pipeline.ncsn.samplers`: settings, what they do, and what is tried of them.

    A kind adds its settings as fields and defines `levels`. With fields `num_levels` and `rho` it has levels
    of its own, and the rest works for it as it is.
    """

    sigma_max: float | None = field(default=None, kw_only=True)
    """First of its own levels, within the trained range; None: that of the training."""
    sigma_min: float | None = field(default=None, kw_only=True)
    """The last one."""
    start: Start | None = field(default=None, kw_only=True)
    """Where it begins; None: at the kind's own start, noise."""

    on_trained_levels: ClassVar[bool] = False
    """Whether its levels are those of the training, so that it suits a network conditional on them."""
    karras: ClassVar[bool] = False
    """Whether its levels are best by Karras's spacing, as those of the ODE's solvers are; else geometric."""
    searched: ClassVar[Mapping[str, Tried]] = {}
    """By name, what a search tries besides the ends of the ladder and the share of the budget; an order that
    changes changes what is proposed."""

    def __post_init__(self) -> None:
        levels, rho = getattr(self, "num_levels", 2), getattr(self, "rho", None)
        if levels < 2:
            raise UserError(f"num_levels is {levels}: a ladder needs at least 2 levels.")
        if rho is not None and not (rho >= 1 and math.isfinite(rho)):
            raise UserError(f"rho is {rho}: it must be a number of at least 1, such as 7.")
        self._check_ends()

    def _check_ends(self) -> None:
        given = {name: value for name in ENDS if (value := getattr(self, name)) is not None}
        if given and not hasattr(self, "num_levels"):
            raise UserError(f"{next(iter(given))} is not for {kinds.kind_of(self)}: it has the levels of the training.")
        for name, value in given.items():
            if not (value > 0 and math.isfinite(value)):
                raise UserError(f"{name} is {value}: it must be a number above 0, in units of pixels in [0, 1].")
        if len(given) == len(ENDS) and given["sigma_max"] <= given["sigma_min"]:
            raise UserError(f"sigma_max is {self.sigma_max}: it must be above sigma_min, {self.sigma_min}.")

    @abstractmethod
    def levels(self, score: Score, sigmas: Tensor, rng: Noise, *, start: Tensor | None = None) -> Iterator[Tensor]:
        """The samples, (B, *shape), unclamped, once for each level of a ladder (L,), descending.

        The last ones have noise sigma_L, which the denoising step removes. Each is a tensor of its own.

        Args:
            score: the score model.
            sigmas: the ladder, (L,), without a final 0.
            rng: draws the noise of these B samples.
            start: (B, *shape) at sigma_1; None: see the kind.
        """

    def on(self, trained: Ladder) -> Sampler:
        """This sampler for a network that was trained on a ladder, on levels of its own.

        Raises:
            UserError: an end outside the trained range, or ends that leave no room.
        """
        return Sampler(kinds.kind_of(self), self.ladder(trained), self.options(), self.start)

    def ladder(self, trained: Ladder) -> Ladder:
        """Levels of its own, from `sigma_max` to `sigma_min` or between the ends of the training; see `on`."""
        own = {name: getattr(self, name) for name in LEVELS}
        high, low = (getattr(self, end) or getattr(trained, end) for end in ENDS)
        if not trained.sigma_min <= low < high <= trained.sigma_max:
            raise UserError(
                f"the sampler's levels from sigma {high} to {low} leave the range of the training, "
                f"{trained.sigma_max} to {trained.sigma_min}: keep sigma_max and sigma_min within it."
            )
        return Ladder(high, low, **own)

    def options(self) -> dict[str, Any]:
        """The settings that are not the ladder's, not the start and not the default."""
        not_own = ("kind", "start", *LEVELS, *ENDS)
        return {key: value for key, value in kinds.plain(self).items() if key not in not_own}

    @classmethod
    def compared(cls, num_levels: int, rho: float) -> dict[str, Any]:
        """What a comparison on equal terms gives each kind: its levels, and the step of theory."""
        given = {"num_levels": num_levels, "rho": rho if cls.karras else None, "step_size": "analytic"}
        return {name: value for name, value in given.items() if name in cls.__dataclass_fields__}

    @classmethod
    def theory(cls, trained: Ladder, max_nfe: int) -> dict[str, float]:
        """Where the search begins: `budget_share`, and a value for each of `searched`."""
        share = min(1.0, EDM_NFE / max_nfe) if cls.karras else 1.0
        return {"budget_share": share, **{name: one.start for name, one in cls.searched.items()}}

    @classmethod
    def proposed(cls, ladder: Ladder, values: Mapping[str, Any], budget: int) -> Sampler:
        """The sampler that a search tries.

        Args:
            ladder: its ends and number of levels, geometric.
            values: of `searched`, and maybe others.
            budget: the most evaluations for each sample, the last denoising included.
        """
        own = {name: values[name] for name in cls.searched}
        return replace(cls(**{"num_levels": ladder.num_levels, **own}).on(ladder), start="data")


def sample(
    settings: SamplerSettings,
    score: Score,
    sigmas: Tensor,
    rng: Noise,
    *,
    denoise: bool,
    start: Tensor | None = None,
) -> Tensor:
    """Samples by a kind of sampler on any ladder, with or without the last denoising step.

    Args:
        settings: such as `Heun(num_levels=18, rho=7.0)`; its own number of levels does not matter here.
        score: the score model.
        sigmas: the ladder, (L,), descending.
        rng: draws the noise of these B samples.
        denoise: end with x + sigma_L^2 score(x, sigma_L), one more evaluation (NCSNv2, section 4.1).
        start: (B, *shape) at sigma_1; None: see the kind.

    Returns:
        (B, *shape), unclamped.
    """
    x = last(settings.levels(score, sigmas, rng, start=start))
    return denoised(score, x, sigmas) if denoise else x


def last(levels: Iterator[Tensor]) -> Tensor:
    """The samples after the last level, (B, *shape), of a sampler's levels."""
    return deque(levels, maxlen=1).pop()


@torch.no_grad()
def denoised(score: Score, x: Tensor, sigmas: Tensor) -> Tensor:
    """The last denoising step on finished samples: both kinds of one run for one more evaluation.

    Args:
        score: the score model.
        x: the end of a sampler, (B, *shape).
        sigmas: its ladder, (L,).

    Returns:
        x + sigma_L^2 score(x, sigma_L), (B, *shape).
    """
    return denoise(score, x, sigmas[-1].to(x.device))
