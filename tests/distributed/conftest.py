"""Rays for the tests of a module: a local one in this process, and the head of a cluster on loopback."""

from collections.abc import Iterator

import pytest

from pipeline.cluster.connect import connect
from tests.cluster import heads


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """Two CPUs of Ray on this machine, started once for the tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with connect(workers=2, cpus_per_worker=1, use_gpu=False):
            yield


@pytest.fixture(scope="module")
def head() -> Iterator[heads.Head]:
    """A real head with two CPUs and its dashboard, with a session folder and processes of its own."""
    with heads.started() as made:
        yield made
