"""What every sampler asks of its ladder, and the last of what it yields along one."""

from collections import deque
from collections.abc import Iterator

from torch import Tensor

from ..errors import UserError


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


def last(levels: Iterator[Tensor]) -> Tensor:
    """The samples after the last level, (B, *shape), of a sampler's levels."""
    return deque(levels, maxlen=1).pop()
