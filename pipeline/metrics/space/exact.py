"""The same bits each time, whatever the caller did to torch before."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def exact(seed: int) -> Iterator[None]:
    """Run a block on one thread, by deterministic algorithms, with torch's CPU generator at `seed`.

    One thread, since the order in which threads add up decides the last bits. The caller's number
    of threads, determinism flag and generator are back as they were when the block ends.
    (`torch.use_deterministic_algorithms` imports torch's compiler, which takes a second.)
    """
    threads, flag = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    with torch.random.fork_rng(devices=[]):
        try:
            torch.set_num_threads(1)
            torch.set_deterministic_debug_mode("error")
            torch.default_generator.manual_seed(seed)
            yield
        finally:
            torch.set_deterministic_debug_mode(flag)
            torch.set_num_threads(threads)
