"""Precision, recall, density and coverage: known sets, and the package they are defined by."""

import numpy as np
import pytest
from prdc import compute_prdc

from pipeline.metrics import distances
from pipeline.metrics.neighbours import prdc


def test_identical_sets():
    x = np.random.default_rng(0).normal(size=(200, 8))
    ones = {"precision": 1, "recall": 1, "density": 1, "coverage": 1}
    assert prdc(x, x, nearest_k=5) == pytest.approx(ones)


def test_disjoint_sets():
    a, b = np.random.default_rng(1).normal(size=(2, 100, 8))
    zeros = {"precision": 0, "recall": 0, "density": 0, "coverage": 0}
    assert prdc(a + 100, b, nearest_k=5) == zeros


def test_a_mode_left_out_costs_recall_and_coverage_not_precision():
    rng = np.random.default_rng(2)
    mode = np.repeat([[0.0] * 4, [50.0] * 4], 300, axis=0)
    found = prdc(rng.normal(size=(300, 4)), rng.normal(size=(600, 4)) + mode, nearest_k=5)
    assert found["precision"] > 0.9
    assert found["recall"] == pytest.approx(0.5, abs=0.05)
    assert found["coverage"] == pytest.approx(0.5, abs=0.05)
    invented = prdc(rng.normal(size=(600, 4)) + mode, rng.normal(size=(300, 4)), nearest_k=5)
    assert invented["precision"] == pytest.approx(0.5, abs=0.05)
    assert invented["recall"] > 0.9


@pytest.mark.parametrize(("n", "m", "nearest_k"), [(300, 200, 5), (120, 700, 3), (600, 530, 1)])
def test_equals_the_package_prdc(n, m, nearest_k):
    rng = np.random.default_rng(n)
    fake, real = rng.normal(0.3, 0.9, (n, 6)), rng.normal(size=(m, 6))
    assert prdc(fake, real, nearest_k=nearest_k) == pytest.approx(compute_prdc(real, fake, nearest_k))


def test_rows_held_at_once_change_nothing(monkeypatch):
    fake, real = np.random.default_rng(3).normal(size=(2, 100, 6))
    whole = prdc(fake, real, nearest_k=4)
    monkeypatch.setattr(distances, "_TILE", 13)
    assert prdc(fake, real, nearest_k=4) == whole
    monkeypatch.setattr(distances, "_NUMBERS", 7 * 6)
    assert prdc(fake, real, nearest_k=4) == whole
