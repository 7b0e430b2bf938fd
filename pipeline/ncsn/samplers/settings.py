"""A sampler as plain settings: which one, on which ladder, with which numbers."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, Self

from torch import Tensor

from .. import noise
from ..errors import UserError
from ..score import Score
from .consistent import consistent_levels
from .dpm_solver import dpm_solver_levels
from .langevin import Convention, annealed_langevin_levels, denoised
from .ode import begin, probability_flow_levels
from .predictor_corrector import predictor_corrector_levels
from .prior import Law
from .rng import Noise
from .sigmas import last

Levels = Callable[..., Iterator[Tensor]]

KINDS: dict[str, Levels] = {
    "langevin": annealed_langevin_levels,
    "consistent": consistent_levels,
    "predictor_corrector": predictor_corrector_levels,
    "euler": partial(probability_flow_levels, method="euler", denoise=False),
    "heun": partial(probability_flow_levels, method="heun", denoise=False),
    "stochastic_heun": partial(probability_flow_levels, method="heun", denoise=False),
    "dpm_solver": partial(dpm_solver_levels, denoise=False),
}
"""By name: called with (score, sigmas, rng) and the sampler's own options, each yields the samples once for
each level of the ladder, the last time with noise sigma_L, which the denoising step removes."""


@dataclass(frozen=True)
class Ladder:
    """Noise levels by their ends and number, in units of pixels in [0, 1]."""

    sigma_max: float
    sigma_min: float
    num_levels: int
    rho: float | None = None
    """Exponent of Karras's spacing (arXiv 2206.00364, equation 5); None: geometric."""

    def sigmas(self) -> Tensor:
        """(L,) float32, descending."""
        if self.rho is None:
            return noise.geometric_sigmas(self.sigma_max, self.sigma_min, self.num_levels)
        return noise.karras_sigmas(self.sigma_max, self.sigma_min, self.num_levels, self.rho)

    def plain(self) -> dict[str, Any]:
        """The settings as YAML holds them; a geometric ladder has no rho."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Self:
        """From a mapping that holds these keys, and maybe others.

        Raises:
            UserError: a key is missing.
        """
        try:
            ends = {name: plain[name] for name in ("sigma_max", "sigma_min", "num_levels")}
        except KeyError as error:
            raise UserError(
                f"the settings {dict(plain)} lack {error}: repeat the stage that wrote them."
            ) from error
        return cls(**ends, rho=plain.get("rho"))


@dataclass(frozen=True)
class Sampler:
    """One of `KINDS` on a ladder, with its options."""

    kind: str
    ladder: Ladder
    options: Mapping[str, Any]
    """The kind's own keyword arguments, such as `step_lr` and `steps_per_level` of annealed Langevin
    dynamics."""
    start: Literal["data"] | None = None
    """'data': at the Gaussian of the data's moments (`pipeline.ncsn.samplers.prior`); None: see `levels`."""

    @classmethod
    def langevin(
        cls, ladder: Ladder, *, step_lr: float, steps_per_level: int, convention: Convention | None = None
    ) -> Self:
        """Annealed Langevin dynamics: the step eps at the last level, and steps T at each level; None is
        the sampler's own convention, and no option."""
        options: dict[str, Any] = {"step_lr": step_lr, "steps_per_level": steps_per_level}
        return cls("langevin", ladder, options | ({"convention": convention} if convention else {}))

    @classmethod
    def analytic(cls, ladder: Ladder, steps_per_level: int, ratio: float = 1.0) -> Self:
        """Annealed Langevin dynamics, its step by technique 4 of NCSNv2 (arXiv 2006.09011) times `ratio`."""
        step_lr = noise.step_lr(ladder.sigmas(), steps_per_level) * ratio
        return cls.langevin(ladder, step_lr=step_lr, steps_per_level=steps_per_level)

    def plain(self) -> dict[str, Any]:
        """The settings as YAML holds them."""
        start = {"start": self.start} if self.start else {}
        return {"kind": self.kind, **self.ladder.plain(), **self.options, **start}

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `plain`; the key `rule`, by which a sampler was chosen, may stand beside.

        Raises:
            UserError: an unknown kind, or a key is missing.
        """
        ladder, kind = Ladder.read(plain), plain.get("kind")
        if kind not in KINDS:
            raise UserError(f"the sampler {kind!r} is not one of {', '.join(KINDS)}: repeat `tune_sampler`.")
        known = {"kind", "rule", "start", *Ladder.__dataclass_fields__}
        options = {key: value for key, value in plain.items() if key not in known}
        return cls(kind, ladder, options, plain.get("start"))

    def levels(self, score: Score, rng: Noise, law: Law | None = None) -> Iterator[Tensor]:
        """The samples, (B, *shape), unclamped, once for each level; the last ones have noise sigma_L.

        Langevin dynamics start from U[0, 1) as in the papers, the others from N(0.5, sigma_1^2), or from
        the data's moments where `start` says so.

        Args:
            law: the data's, for the start 'data'; not looked at otherwise.

        Raises:
            UserError: options that the sampler refuses, or a start from a law that is not given.
        """
        sigmas = self.ladder.sigmas()
        return KINDS[self.kind](score, sigmas, rng, start=self._begin(sigmas, rng, law), **self.options)

    def _begin(self, sigmas: Tensor, rng: Noise, law: Law | None) -> Tensor | None:
        if self.start is None:
            return None if self.kind == "langevin" else begin(sigmas, rng, None)
        if self.start != "data" or law is None:
            raise UserError(
                f"the sampler starts at {self.start!r}: give it the data's law, pipeline.ncsn.samplers.prior.Law."
            )
        return law.draw(rng, float(sigmas[0]))

    def sample(self, score: Score, rng: Noise, *, denoise: bool, law: Law | None = None) -> Tensor:
        """Samples, (B, *shape), unclamped, with or without the last denoising step, which has no churn."""
        x = last(self.levels(score, rng, law))
        return denoised(score, x, self.ladder.sigmas()) if denoise else x
