"""Fixtures of the training tests."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from pipeline.training.task import Task
from tests.training.tiny import make_images, make_task


@pytest.fixture
def task() -> Task:
    return make_task()


@pytest.fixture
def images() -> np.ndarray:
    return make_images()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
