"""Connecting to Ray: the user's mistakes are told at once, by the key that mends them."""

import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import ray

from pipeline.cluster.connect import ROOT, UseGpu, connect, has_gpu, is_remote, worker_environment
from pipeline.ncsn.errors import UserError


@pytest.fixture
def dead_address() -> Iterator[str]:
    """An address of this machine where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def enter(workers: int = 1, use_gpu: bool = False) -> None:
    with connect(workers=workers, cpus_per_worker=1, use_gpu=use_gpu):
        raise AssertionError("connected")


def test_a_dead_address_is_refused_in_seconds(dead_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", dead_address)
    start = time.monotonic()
    with pytest.raises(UserError, match=f"RAY_ADDRESS={dead_address} does not answer.*unset RAY_ADDRESS"):
        enter()
    assert time.monotonic() - start < 8
    assert not ray.is_initialized()


@pytest.mark.parametrize("address", ["ray://head:10001", "http://head:8265", "head", "head:port", ":6379"])
def test_an_address_of_another_kind_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match=r"no HOST:PORT: name the cluster's head node"):
        enter()


def test_more_workers_than_this_machine_has_cores_are_refused_before_ray_starts() -> None:
    with pytest.raises(UserError, match=r"compute\.workers needs 10000 CPUs, but this machine has \d+"):
        enter(workers=10_000)
    assert not ray.is_initialized()


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_a_folder_too_long_for_sockets_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("t" * 60)
    long.mkdir()
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(name, str(long))
    with pytest.raises(UserError, match=f"{name}={long} is too long .* set RAY_TMPDIR to a shorter folder"):
        enter()
    assert not ray.is_initialized()


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_a_ray_that_runs_out_of_time_is_started_again_and_then_given_up_in_a_line(
    failures: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    begun: list[object] = []

    def init(**_: object) -> None:
        begun.append(_)
        if len(begun) <= failures:
            raise Exception("The current node timed out during startup.\nmore")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 1.0})
    given_up = failures == 3
    with pytest.raises(
        UserError if given_up else AssertionError, match="End other programs" if given_up else "conn"
    ) as e:
        enter()
    assert len(begun) == min(failures + 1, 3) and "\n" not in str(e.value)
    assert [m.partition(":")[0][-10:] for m in caplog.messages] == [f"try {n + 1} of 3" for n in range(failures)]


@pytest.mark.parametrize(("address", "remote"), [(None, False), ("", False), ("local", False), ("head:6379", True)])
def test_what_counts_as_a_cluster(address: str | None, remote: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    assert is_remote() is remote


@pytest.mark.parametrize(
    ("gpus", "use_gpu", "usable"),
    [(1, "auto", 1), (2, "auto", 2), (0, "auto", 0), (2, True, 2), (2, False, 0)],
)
def test_auto_uses_what_gpus_there_are(
    gpus: int, use_gpu: UseGpu, usable: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0, "GPU": float(gpus)})
    with connect(workers=2, cpus_per_worker=1, use_gpu=use_gpu) as found:
        assert found == usable


def test_fewer_gpus_than_demanded_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0, "GPU": 1.0})
    with pytest.raises(UserError, match=r"needs 2 GPUs, but the Ray cluster has 1.*compute\.use_gpu to auto"):
        enter(workers=2, use_gpu=True)


def test_a_gpu_of_this_process_is_used_as_told_and_missed_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert (has_gpu(True), has_gpu("auto"), has_gpu(False)) == (True, True, False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert (has_gpu("auto"), has_gpu(False)) == (False, False)
    with pytest.raises(UserError, match=r"compute\.use_gpu is true, but torch finds no CUDA GPU"):
        has_gpu(True)


def listening_beyond_loopback() -> list[str]:
    """The addresses, other than this machine's own loopback, at which this process and its children listen."""
    here = psutil.Process()
    found = [one.laddr for process in [here, *here.children(recursive=True)] for one in process.net_connections("tcp")
             if one.status == psutil.CONN_LISTEN]  # fmt: skip
    assert len(found) > 5, "Ray's processes listen, and were found"
    return [f"{ip}:{port}" for ip, port in found if not ip.removeprefix("::ffff:").startswith("127.")]


@pytest.mark.ray
def test_a_local_ray_is_quiet_leaves_nothing_and_serves_nested_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    level, before = logging.getLogger().level, set(os.environ)
    with connect(workers=1, cpus_per_worker=1, use_gpu="auto") as gpus:
        assert gpus == ray.cluster_resources().get("GPU", 0)
        assert logging.getLogger().level == level
        with connect(workers=1, cpus_per_worker=1, use_gpu=False) as inner:
            assert inner == 0
        assert ray.is_initialized()
        with pytest.raises(UserError, match=r"compute\.workers needs 2 CPUs, but the Ray cluster has 1"):
            enter(workers=2)
        with pytest.raises(UserError, match=r"needs 1 GPUs.*compute\.use_gpu"):
            enter(use_gpu=True)

        @ray.remote(runtime_env=worker_environment(1))
        def where() -> tuple[str, str]:
            import pipeline

            return pipeline.__file__, os.environ["OMP_NUM_THREADS"]

        assert listening_beyond_loopback() == []
        assert ray.get(where.remote()) == (str(ROOT / "pipeline/__init__.py"), "1")
    assert not ray.is_initialized()
    assert not (tmp_path / ".ray").exists()
    assert not {name for name in set(os.environ) - before if "AUTH" in name}
    out, err = capfd.readouterr()
    assert out + err == ""
