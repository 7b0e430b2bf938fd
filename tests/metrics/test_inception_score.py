"""The inception score at its bounds, in its order, and against torchmetrics."""

import warnings

import numpy as np
import pytest
import torch
from torchmetrics.image.inception import InceptionScore

from pipeline.metrics.inception_score import inception_score


@pytest.mark.parametrize("classes", [2, 10])
def test_bounds(classes):
    n = 20 * classes
    assert inception_score(np.full((n, classes), 1 / classes), splits=4) == pytest.approx((1, 0), abs=1e-12)
    every_class = np.eye(classes)[np.arange(n) % classes]
    assert inception_score(every_class, splits=4) == pytest.approx((classes, 0), abs=1e-9)
    assert inception_score(np.eye(classes)[np.zeros(n, int)], splits=4) == pytest.approx((1, 0), abs=1e-12)


def test_splits_are_not_shuffled():
    one_class_a_split = np.eye(10)[np.repeat(np.arange(10), 30)]
    assert inception_score(one_class_a_split, splits=10) == pytest.approx((1, 0), abs=1e-12)
    assert inception_score(one_class_a_split, splits=1) == pytest.approx((10, 0), abs=1e-9)


def test_uneven_splits_leave_no_sample_out():
    classes = np.array([0, 1, 0, 1, 1])  # parts [0, 1] and [0, 1, 1]
    uneven = np.exp(-(np.log(1 / 3) + 2 * np.log(2 / 3)) / 3)
    mean, std = inception_score(np.eye(2)[classes], splits=2)
    assert mean == pytest.approx((2 + uneven) / 2)
    assert std == pytest.approx((2 - uneven) / 2)


def test_equals_torchmetrics_once_its_shuffle_is_undone():
    p = np.random.default_rng(0).dirichlet(np.full(10, 0.3), size=300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = InceptionScore(torch.nn.Identity(), splits=10)
    metric.update(torch.from_numpy(p).log())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        order = torch.randperm(300).numpy()
        torch.manual_seed(0)
        theirs, their_std = metric.compute()
    mean, std = inception_score(p[order], splits=10)
    assert mean == pytest.approx(float(theirs), rel=1e-9)
    assert std == pytest.approx(float(their_std) * np.sqrt(9 / 10), rel=1e-9)
