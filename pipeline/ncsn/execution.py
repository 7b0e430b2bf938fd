"""How a network is evaluated: its arithmetic, and whether it is compiled."""

import torch
from torch import Tensor

from .errors import UserError
from .score import Score

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def evaluated(network: Score, *, precision: str, compile: bool) -> Score:
    """The network as a score that computes in a given precision, compiled or not; its weights are shared.

    Args:
        network: a network or another score; its weights stay float32.
        precision: "float32", or "bfloat16" for automatic mixed precision (convolutions and matrix products
            in bfloat16), worth it on CPUs with AVX-512 BF16 or AMX and on GPUs.
        compile: through `torch.compile`, which on a CPU needs a C++ compiler, and a minute at the first call.

    Returns:
        A score; its output is float32.

    Raises:
        UserError: another precision.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision is {precision!r}: it must be one of {', '.join(PRECISIONS)}.")
    called: Score = torch.compile(network) if compile else network
    if precision == "float32":
        return called

    def score(x: Tensor, sigma: Tensor) -> Tensor:
        with torch.autocast(x.device.type, PRECISIONS[precision]):
            out: Tensor = called(x, sigma)
        return out.float()

    return score
