"""The same bits each time, whatever the caller did to torch before."""

import contextlib
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
