"""Score networks: one file a kind, with the dataclass of its settings and the module that it builds."""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from .. import kinds
from ..score import Score


class NetworkSettings(Protocol):
    """What a kind of this room is: a frozen dataclass of its settings with these members.

    It may have `check_size(image_size)` too, which raises UserError for a size that `build` would refuse: it is
    asked when params.yaml is read.
    """

    conditional_on_levels: ClassVar[bool]
    """Whether the network has weights for each level of its ladder, and so knows no other sigma."""

    def build(self, channels: int, image_size: int, sigmas: Sequence[float] | Tensor | None) -> nn.Module:
        """The network, its weights drawn from torch's global generator (seed or fork it yourself).

        Called as `network(x, sigma)` on images in [0, 1], (B, C, H, W), it returns a score of that shape.

        Args:
            channels: C of the images.
            image_size: H = W in pixels.
            sigmas: the ladder it is trained on, (L,), descending, kept as the buffer `sigmas`; or None.
        """
        ...


def make_network(
    kind: str,
    *,
    channels: int,
    image_size: int,
    sigmas: Sequence[float] | Tensor | None = None,
    **settings: Any,
) -> nn.Module:
    """A score network by its kind and settings, with random weights: see `NetworkSettings.build`.

    Raises:
        UserError: an unknown kind, settings that are not its own, or an impossible size.
    """
    made: NetworkSettings = kinds.make("networks", {"kind": kind, **settings})
    return made.build(channels, image_size, sigmas)


def conditional_on_levels(network: Score) -> bool:
    """Whether a score model knows no sigma but the levels of its own ladder, its buffer `sigmas`."""
    return bool(getattr(network, "conditional_on_levels", False))
