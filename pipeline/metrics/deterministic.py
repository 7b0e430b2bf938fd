"""Deterministic evaluation: the same bits each time, whatever torch's state."""

import contextlib
import os
import threading
from collections.abc import Iterator

import torch

_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def exact(seed: int) -> Iterator[None]:
    """Run a block on one thread, by deterministic algorithms, with torch's CPU generator at `seed`.

    One thread, since the order in which threads add up decides the last bits. The caller's number
    of threads, determinism flag and generator are back as they were when the block ends. All three
    belong to the process, so blocks of several threads of it (trials side by side) wait for each other.
    (`torch.use_deterministic_algorithms` imports torch's compiler, which takes a second.)
    """
    with _ONE_AT_A_TIME, torch.random.fork_rng(devices=[]):
        threads, flag = torch.get_num_threads(), torch.get_deterministic_debug_mode()
        try:
            torch.set_num_threads(1)
            torch.set_deterministic_debug_mode("error")
            torch.default_generator.manual_seed(seed)
            yield
        finally:
            torch.set_deterministic_debug_mode(flag)
            torch.set_num_threads(threads)


@contextlib.contextmanager
def exact_on(device: str) -> Iterator[None]:
    """`exact`, seed 0, for a network on a device: on "cuda" in whole float32, by deterministic kernels.

    cuDNN, and cuBLAS where so set, would otherwise round to TensorFloat-32, of 10 bits, and cuDNN pick
    kernels by their speed of the day. The bits are those of one kind of GPU and differ from the CPU's, by
    about float32's rounding.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(exact(0))
        if device == "cuda":
            stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            torch.set_float32_matmul_precision("highest")
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else torch refuses cuBLAS
            stack.enter_context(
                torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
            )
        yield
