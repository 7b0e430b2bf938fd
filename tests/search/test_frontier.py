"""Laws of the frontier: costs are counted and kept to, and what fails is left out and told."""

import csv
import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.files import read_json, sha256
from pipeline.metrics.fid import moments
from pipeline.ncsn.kinds import kinds
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.nfe import CountEvaluations, cost
from pipeline.search.frontier import FrontierPoint, FrontierSetup, LeftOut, chosen, frontier, write_frontier

KINDS = kinds("samplers")
SHAPE = (1, 2, 2)
OPTIONS: dict[str, dict[str, Any]] = {
    "langevin": {"steps_per_level": 2},
    "predictor_corrector": {
        "predictor": "reverse_diffusion", "corrector": "annealed", "corrector_steps": 1, "snr": 0.2,
    },
    "stochastic_heun": {"churn": 2.0, "churn_min": 0.05, "churn_max": 1.0, "churn_noise": 1.0},
}  # fmt: skip


def normal(x: Tensor, sigma: Tensor) -> Tensor:
    """The exact score of N(1/2, 1/64 I) at noise sigma."""
    return (0.5 - x) / (1 / 64 + sigma**2)


def pixels(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1) / 255


def setup(**changes: Any) -> FrontierSetup:
    law = np.random.default_rng(0).normal(0.5, 1 / 8, (4000, 4))
    plain = FrontierSetup(
        network=normal,
        trained=Ladder(2.0, 0.01, 3),
        shape=SHAPE,
        features=pixels,
        reference=moments(law),
        num_samples=300,
        shard_size=100,
        seed=1,
        rho=7.0,
        options=OPTIONS,
    )
    return dataclasses.replace(plain, **changes)


def points(setup: FrontierSetup, budgets: list[int]) -> list[FrontierPoint]:
    found = list(frontier(setup, budgets))
    assert all(isinstance(point, FrontierPoint) for point in found)
    return found  # type: ignore[return-value]


def test_every_kind_gets_near_the_law_with_enough_evaluations() -> None:
    """The trace of the exact covariance is 1/16: an FID of 0.004 is within what 300 samples can tell."""
    few, many = points(setup(), [7]), points(setup(), [101])
    assert [point.sampler.kind for point in many] == list(KINDS)
    for rough, fine in zip(few, many, strict=True):
        assert fine.fid < 0.004, fine
        assert fine.fid < rough.fid, "more evaluations are of use"


@pytest.mark.parametrize("budget", [7, 16, 23])
def test_a_cost_is_counted_within_its_budget_and_one_more_level_would_not_be(budget: int) -> None:
    calls = CountEvaluations(normal)
    given = setup(network=calls, num_samples=4, shard_size=4)
    for kind in KINDS:
        sampler = chosen(kind, given, budget)
        longer = dataclasses.replace(sampler.ladder, num_levels=sampler.ladder.num_levels + 1)
        assert cost(sampler) <= budget < cost(dataclasses.replace(sampler, ladder=longer)), kind
    calls.nfe = 0
    found = points(given, [budget])
    assert sum(point.nfe for point in found) == calls.nfe and all(point.nfe <= budget for point in found)
    solvers = {point.sampler.kind: point.nfe for point in found}
    assert solvers["euler"] == solvers["dpm_solver"] == budget


def test_what_is_undefined_or_fails_is_left_out_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    def broken(x: Tensor, sigma: Tensor) -> Tensor:
        return normal(x, sigma) * (torch.nan if len(x) == 50 else 1)  # the last shard alone

    caplog.set_level(logging.WARNING)
    found = list(frontier(setup(), [2, 9]))
    cheap = {point.sampler.kind for point in found if isinstance(point, FrontierPoint) and point.nfe == 2}
    assert cheap == {"euler", "dpm_solver"}
    left = [point for point in found if isinstance(point, LeftOut)]
    assert {(point.sampler, point.budget) for point in left} == {(kind, 2) for kind in set(KINDS) - cheap}
    assert len(caplog.records) == len(left)
    assert "langevin within 2 evaluations is left out: two levels take 5" in caplog.text
    failed = list(frontier(setup(network=broken, num_samples=250), [9]))
    assert all(isinstance(point, LeftOut) and "diverged" in point.reason for point in failed)


def test_the_number_of_threads_changes_no_bit_the_seed_does() -> None:
    one, three = points(setup(), [9]), points(setup(workers=3), [9])
    assert one == three
    assert all(a.fid != b.fid for a, b in zip(one, points(setup(seed=2), [9]), strict=True))


def test_the_file_holds_the_points_and_the_manifest_how_they_were_made(tmp_path: Path) -> None:
    found = list(frontier(setup(num_samples=20), [2, 5]))
    write_frontier(tmp_path, found, {"seed": 1})
    with (tmp_path / "frontier.csv").open() as file:
        rows = list(csv.DictReader(file))
    kept = [point for point in found if isinstance(point, FrontierPoint)]
    assert [(r["sampler"], int(r["nfe"]), float(r["fid"]), int(r["num_samples"])) for r in rows] == [
        point.row() for point in kept
    ]
    manifest = read_json(tmp_path / "manifest.json")
    assert manifest["seed"] == 1 and manifest["sha256"] == {"frontier.csv": sha256(tmp_path / "frontier.csv")}
    assert [(line["kind"], line["nfe"]) for line in manifest["points"]] == [p.row()[:2] for p in kept]
    assert len(manifest["left_out"]) == len(found) - len(kept) > 0
