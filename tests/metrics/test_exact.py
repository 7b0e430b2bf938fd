"""What torch holds for the whole process comes back, whichever threads asked for exact blocks."""

import time
from concurrent.futures import ThreadPoolExecutor

import torch

from pipeline.metrics.space.exact import exact


def test_blocks_of_several_threads_draw_alone_and_leave_torch_as_it_was():
    before = torch.get_rng_state(), torch.get_num_threads(), torch.get_deterministic_debug_mode()

    def drawn(seed: int) -> list[float]:
        with exact(seed):
            first = torch.randn(2)
            time.sleep(0.01 * (seed + 1))  # the first to begin is not the last to end
            return torch.cat([first, torch.randn(2)]).tolist()

    alone = [drawn(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(drawn, range(4))) == alone
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (torch.get_num_threads(), torch.get_deterministic_debug_mode()) == before[1:]


def test_a_block_within_a_block():
    with exact(0):
        with exact(1):
            assert torch.get_deterministic_debug_mode() == 2
        assert torch.get_deterministic_debug_mode() == 2
    assert torch.get_deterministic_debug_mode() == 0
