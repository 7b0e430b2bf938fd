"""What torch holds for the whole process comes back, whichever threads asked for exact blocks."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import torch

from pipeline.metrics.deterministic import exact, exact_on


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


def test_on_cuda_the_block_is_whole_float32_by_deterministic_kernels(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark
    with exact_on("cuda"):
        assert (cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark) == (False, True, False)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert not torch.backends.cuda.matmul.allow_tf32 and torch.get_deterministic_debug_mode() == 2
    with exact_on("cpu"):
        assert (cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark) == before
