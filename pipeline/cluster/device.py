"""What a process that computes alone, without Ray, computes on."""

from typing import Literal

import torch

from pipeline.ncsn.errors import UserError

UseGpu = bool | Literal["auto"]


def has_gpu(use_gpu: UseGpu) -> bool:
    """Whether this process itself, without Ray, is to compute on its GPU.

    Raises:
        UserError: it must, but torch finds none.
    """
    found = torch.cuda.is_available()
    if use_gpu is True and not found:
        raise UserError(
            "compute.use_gpu is true, but torch finds no CUDA GPU on this machine: set compute.use_gpu to "
            "auto or false in params.yaml."
        )
    return found and use_gpu is not False


def device(use_gpu: UseGpu) -> str:
    """The device of this process: "cuda" or "cpu"; raises UserError as `has_gpu` does."""
    return "cuda" if has_gpu(use_gpu) else "cpu"
