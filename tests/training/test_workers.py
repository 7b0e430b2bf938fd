"""Any number of workers gives the same bits; plain DDP gives the same loss but for rounding."""

import json
import multiprocessing
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from pipeline.ncsn.errors import UserError
from pipeline.training import fit as runner
from pipeline.training.allreduce import sum_in_order
from pipeline.training.fit import fit, together
from pipeline.training.loop import own_parts, train
from tests.training.tiny import digest, make_images, make_task

LONG = {"steps": 100, "checkpoint_every": 20, "log_every": 10}
Job = Callable[[int, int, Path], Any]


def spawn(job: Job, workers: int, folder: Path) -> list[Any]:
    """Run `job(rank, workers, folder)` in this many processes of one gloo group; what each returned."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # forkserver: torch is imported once instead of once in each process.
    multiprocessing.set_forkserver_preload(["torch", "pipeline.training.fit"])
    mp.start_processes(_member, (job, workers, folder, port), workers, start_method="forkserver")
    return [json.loads((folder / f"{job.__name__}-{workers}-{rank}.json").read_text()) for rank in range(workers)]


def _member(rank: int, job: Job, workers: int, folder: Path, port: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=workers)
    result = job(rank, workers, folder)
    (folder / f"{job.__name__}-{workers}-{rank}.json").write_text(json.dumps(result))
    dist.barrier()
    dist.destroy_process_group()


def sums(micro_batches: int, rank: int, workers: int) -> str:
    parts = torch.randn(micro_batches, 50, generator=torch.Generator().manual_seed(micro_batches))
    each = micro_batches // workers
    return str(sum_in_order(list(parts[rank * each : (rank + 1) * each]), None).numpy().tobytes().hex())


def everything(rank: int, workers: int, folder: Path) -> dict[str, Any]:
    """One process start for all laws: tree sums, whole and partial trainings, DDP, a failing writer."""
    found: dict[str, Any] = {f"sum {m}": sums(m, rank, workers) for m in (4, 8, 12, 20) if m % workers == 0}
    found["digest"] = digest(fit(make_task(**LONG), make_images(), folder / f"whole-{workers}"))
    found["part"] = _part(folder / "shared", {4: 40, 2: 80, 1: 100}[workers])
    fast = train(make_task(determinism="fast", lr=1e-5), make_images())
    found["fast"] = [next(fast).loss for _ in range(3)]
    found["refused"] = _refused(rank, folder / f"refused-{workers}")
    return found


def _part(folder: Path, until: int) -> str:
    """Train on to a step in a folder that runs of other sizes resume."""
    with pytest.MonkeyPatch.context() as patch:
        real = runner._keep

        def keep(event: Any, *rest: Any) -> None:
            real(event, *rest)
            if event.step == until:
                raise StopIteration

        patch.setattr(runner, "_keep", keep)
        with pytest.raises(StopIteration):
            fit(make_task(**LONG), make_images(), folder)
    return json.dumps(digest(folder / f"step_{until:08d}"))


def _refused(rank: int, folder: Path) -> str:
    """A full disk at the writer ends every worker, none of which may wait for the others."""

    def full() -> None:
        if rank == 0:
            raise OSError(28, "No space left on device")

    with pytest.raises(UserError) as caught:
        together(full, folder, None)
    return str(caught.value)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """What 4, then 2, then 1 processes found."""
    folder = tmp_path_factory.mktemp("workers")
    return {workers: spawn(everything, workers, folder) for workers in (4, 2, 1)}


def test_any_number_of_workers_ends_in_the_same_bits(results: dict[int, list[dict[str, Any]]], tmp_path: Path) -> None:
    alone = digest(fit(make_task(**LONG), make_images(), tmp_path))
    assert {json.dumps(found["digest"]) for ranks in results.values() for found in ranks} == {json.dumps(alone)}


def test_a_run_that_changes_its_number_of_workers_ends_in_the_same_bits(
    results: dict[int, list[dict[str, Any]]],
) -> None:
    assert json.loads(results[1][0]["part"]) == results[1][0]["digest"]


@pytest.mark.parametrize("micro_batches", [4, 8, 12, 20])
def test_the_sum_has_the_same_bits_on_any_number_of_workers(
    micro_batches: int, results: dict[int, list[dict[str, Any]]]
) -> None:
    found = {rank[f"sum {micro_batches}"] for ranks in results.values() for rank in ranks}
    assert found == {sums(micro_batches, 0, 1)}
    parts = torch.randn(micro_batches, 50, generator=torch.Generator().manual_seed(micro_batches))
    total = np.frombuffer(bytes.fromhex(found.pop()), np.float32)
    np.testing.assert_allclose(total, parts.double().sum(0), rtol=0, atol=1e-5)


def test_fast_mode_has_the_loss_of_the_bitwise_one(results: dict[int, list[dict[str, Any]]]) -> None:
    bitwise = train(make_task(lr=1e-5), make_images())
    expected = [next(bitwise).loss for _ in range(3)]
    for ranks in results.values():
        for found in ranks:
            assert found["fast"] == pytest.approx(expected, rel=1e-6)


def test_a_failure_of_one_worker_is_told_to_all(results: dict[int, list[dict[str, Any]]]) -> None:
    assert all("No space left" in found["refused"] for ranks in results.values() for found in ranks)


def test_workers_that_do_not_divide_the_micro_batches_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.training.loop.rank_and_workers", lambda group: (0, 3))
    with pytest.raises(UserError, match=r"train\.micro_batches \(4\).*compute\.workers \(3\)"):
        own_parts(make_task(), None)
