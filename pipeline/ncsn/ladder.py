"""Ladder of noise levels by its ends and number, and what every sampler asks of its sigmas."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from torch import Tensor

from . import noise
from .errors import UserError


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
            raise UserError(f"the settings {dict(plain)} lack {error}: run the stage that wrote them again.") from error
        return cls(**ends, rho=plain.get("rho"))


def check_ladder(sigmas: Tensor) -> None:
    """Refuse a ladder that nothing can be sampled on.

    Args:
        sigmas: (L,), highest first.

    Raises:
        UserError: a ladder that is empty, does not descend or has a sigma that is not positive.
    """
    if len(sigmas) == 0 or not bool((sigmas.diff() < 0).all()) or not bool((sigmas > 0).all()):
        raise UserError(
            f"sigmas is {sigmas.tolist()}: it must descend strictly and stay above 0; "
            "the step to 0 is the sampler's own (`denoise`)."
        )
