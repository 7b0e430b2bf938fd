"""A run's files, small and made up, as the stages leave them."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data.dataset import Manifest
from pipeline.git import Commit
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.sampler import Sampler
from pipeline.reporting import report
from pipeline.reporting.intervals import Interval
from pipeline.reporting.lineage import Made
from pipeline.reporting.read_table import read_table
from pipeline.reporting.rows import Estimate, Row, Table

ROWS = {"ncsn": "ncsn", "ncsnv2": "ncsnv2", "tuned": "tuned"}
COMMIT = Commit("0123456789abcdef0123456789abcdef01234567", dirty=True)
MADE = Made("evaluate", "a1b2c3", COMMIT.sha, True, "python 3.11.9", "a CPU, 2 cores")
FIDS = {"ncsn": (22.413, 18.9077), "ncsnv2": (4.9261, 2.6131), "tuned": (3.1072, 1.7342)}
NFES = {"ncsn": 1000, "ncsnv2": 85, "tuned": 80}
FLOOR = 1.4713


def manifest(name: str = "digits", size: int = 8) -> Manifest:
    return {
        "name": name, "title": f"{name}: made up", "licence": "CC0", "homepage": "https://example.org",
        "shape": [60, 1, size, size], "dtype": "uint8", "range": "[0, 1]",
        "sha256": {"images": "3f1c" * 16, "labels": "00" * 32},
        "split": {"train": [0, 50], "held_out": [50, 60], "seed": 0, "held_out_source_rows": [*range(10)]},
        "transformations": [], "classes": 10,
        "duplicates": {"train": 0, "held_out": 0, "held_out_in_train": 0},
        "max_pairwise_distance": None, "source": [],
    }  # fmt: skip


def measures(fid: float, n: int = 720) -> dict[str, Any]:
    return {
        "fid": fid, "kid": fid / 250 - 0.001, "kid_std": 0.00081, "inception_score": 9.1 - fid / 40,
        "inception_score_std": 0.134, "precision": 0.9111 - fid / 90, "recall": 0.8522 - fid / 70,
        "density": 0.9931 - fid / 60, "coverage": 0.9312 - fid / 80, "n": n, "n_reference": 1077,
        "evaluator": "CNN, 64 features, accuracy 0.987", "reference": "train",
    }  # fmt: skip


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_csv(path: Path, header: str, rows: list[list[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])


def write_evaluation(root: Path, row: str, n: int = 720) -> None:
    raw, denoised = FIDS[row]
    measured = {"raw": measures(raw, n), "denoised": measures(denoised, n), "floor": measures(FLOOR, n)}
    rows = [[(sample + nearest) % 60 for nearest in range(5)] for sample in range(8)]
    neighbours = {"neighbours": {"pixels": rows, "features": rows[::-1]}}
    write_json(root / f"evaluation/{row}.json", measured | neighbours)


def write_samples(root: Path, row: str, rng: np.random.Generator) -> None:
    folder = root / f"samples/{row}"
    sampler = Sampler.langevin(Ladder(5.0, 0.01, 17), step_size=2e-5, steps_per_level=5).plain()
    nfe = {"raw": NFES[row], "denoised": NFES[row] + 1}
    write_json(
        folder / "manifest.json",
        {"num_samples": 720, "nfe": nfe, "sampler": sampler, "seed": 0, "sha256": {}},
    )
    write_json(root / f"metrics/generate_{row}.json", {"seconds": 66.1})
    for name, shape in (("raw", (60,)), ("denoised", (60,)), ("intermediate", (12, 6))):
        np.save(folder / f"{name}.npy", rng.integers(0, 256, (*shape, 1, 8, 8), dtype=np.uint8))
    np.save(folder / "inpainting.npy", rng.integers(0, 256, (4, 7, 1, 8, 8), dtype=np.uint8))


def write_run(root: Path) -> Path:
    """A whole run of three rows."""
    rng = np.random.default_rng(0)
    for row in ROWS:
        write_evaluation(root, row)
        write_samples(root, row, rng)
        losses = [[step, 128 * step, 10 + 40 / step + rng.normal()] for step in range(20, 1001, 20)]
        write_csv(root / f"curves/{row}.csv", "step,images,loss", losses)
    ratios = [1.0, *np.geomspace(0.2, 5, 17)]
    tried = [[t + 1, 2e-5 * r, r, 1 + t % 9, (720, 180, 360)[t % 3], 3 + np.log(r) ** 2] for t, r in enumerate(ratios)]
    tried.append([19, 1e-4, 5.0, 3, "", ""])  # a trial that failed
    write_csv(root / "tune_sampler/trials.csv", "trial,step_size,step_size_ratio,steps_per_level,samples,fid", tried)
    write_csv(
        root / "tune_noise/trials.csv",
        "trial,sigma_max,sigma_min,num_levels,fid,steps,loss,nfe,status,reason",
        [
            [
                t + 1,
                5.2 / (t + 1),
                0.01 * (1 + t / 4),
                17 - t,
                5 + 3 * t,
                (400, 100)[t % 2],
                9.5,
                85,
                "finished",
                "",
            ]
            for t in range(8)
        ],
    )
    write_csv(
        root / "frontier/frontier.csv",
        "sampler,nfe,fid,num_samples",
        [
            [name, nfe, 2 + place + 60 / nfe, 720]
            for place, name in enumerate(("langevin", "heun", "euler", "dpm_solver"))
            for nfe in (10, 35, 120, 400)
        ],
    )
    write_json(root / "metrics/features.json", {"held_out_accuracy": 0.9871})
    return root


def write_report(root: Path, out: Path, rows: dict[str, str] = ROWS) -> Path:
    real = np.random.default_rng(1).integers(0, 256, (60, 1, 8, 8), dtype=np.uint8)
    runs = {"tuned": (MADE,)}
    report.write_report(out, root, rows, manifest=manifest(), real=real, grid=[2, 5], runs=runs)
    return out


def estimates(fid: float | None, **others: float | Interval | None) -> tuple[Estimate, ...]:
    """Of the FID, and of other measures by value or by interval."""
    known = {name: value for name, value in {"fid": fid, **others}.items() if value is not None}
    return tuple(
        Estimate(name, value.mean, low=value.low, high=value.high, interval=value)
        if isinstance(value, Interval)
        else Estimate(name, value)
        for name, value in known.items()
    )


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    """The files of a run, to be changed at will."""
    return write_run(tmp_path / "artifacts")


@pytest.fixture
def write(artifacts: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write the report of `artifacts` to tmp_path/reports, of all rows or of those given."""
    return lambda *rows: write_report(artifacts, tmp_path / "reports", {row: row for row in rows or ROWS})


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a whole run, to be read only."""
    root = tmp_path_factory.mktemp("run")
    return write_report(write_run(root / "artifacts"), root / "reports")


@pytest.fixture
def run_again() -> Callable[..., None]:
    """Write a row's evaluation again, on `n` samples."""
    return write_evaluation


@pytest.fixture
def about() -> Callable[..., Manifest]:
    """The manifest of a data set."""
    return manifest


@pytest.fixture
def build(artifacts: Path) -> Callable[..., Table]:
    """The table of the made-up run."""

    def built(name: str = "digits", size: int = 8, rows: tuple[str, ...] = tuple(ROWS)) -> Table:
        networks = {row: row for row in rows}
        return read_table(artifacts, networks, manifest(name, size), COMMIT, {"tuned": (MADE,)})

    return built


@pytest.fixture
def make_row() -> Callable[..., Row]:
    def make(system: str, denoised: bool | None, fid: float | None, **changes: Any) -> Row:
        common = {"n": 720, "n_reference": 1077, "evaluator": "E", "nfe": 100} if fid is not None else {}
        fields = {"network": None if denoised is None else system, "measures": estimates(fid)}
        return Row(system, denoised, f"dvc repro evaluate@{system}", **(fields | common | changes))

    return make


@pytest.fixture
def make_table() -> Callable[..., Table]:
    return lambda *rows: Table("digits", "3f1c" * 16, (), rows)
