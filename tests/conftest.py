"""What all tests share: one thread of torch each, and no test that a slow machine fails."""

import os

import hypothesis
import pytest
import torch

os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's processes yield to all that runs beside them

torch.set_num_threads(1)
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by marks
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """A test that asks for one of the real Rays is marked `ray`."""
    for item in items:
        if {"local_ray", "four_cpus", "two_gpus", "head"} & set(item.fixturenames):
            item.add_marker("ray")
