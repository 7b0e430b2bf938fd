"""Estimates of a row: each measure over its trainings, one for each seed, and the sampling sets of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from pipeline.files import read_json
from pipeline.metrics.measures import Measure, measures
from pipeline.ncsn.errors import UserError
from pipeline.reporting.intervals import nested
from pipeline.reporting.rows import Estimate

Block = Mapping[str, Any]
"""An evaluation, or the part of it that one set of images has, as JSON."""
Cells = Sequence[Sequence[Block]]
"""(S, K): of K sets of samples of each of S trainings."""
MINIMUM_OF = 3
"""FIDs whose minimum EDM (arXiv 2206.00364) reports: one network, that many sets of samples."""


@dataclass(frozen=True)
class Terms:
    """Terms of an evaluation: numbers on other terms are not averaged."""

    n: int
    n_reference: int
    evaluator: str
    reference: str

    @classmethod
    def read(cls, block: Block, path: Path) -> "Terms":
        """Of one set of images; raises UserError where the file `path` lacks a key."""
        return cls(**{name: get(block, name, path) for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Repeats:
    """Evaluations of one row, on equal terms."""

    evaluations: tuple[Block, ...]
    """Of the first training seed, then of the further ones."""
    paths: tuple[Path, ...]
    not_run: tuple[str, ...]
    """Commands of the requested evaluations that are missing."""

    @property
    def names(self) -> tuple[str, ...]:
        """ROW, and ROW-SEED of each further training seed."""
        return tuple(path.stem for path in self.paths)

    def terms(self, kind: str) -> Terms:
        """The terms that all evaluations share."""
        return Terms.read(self.evaluations[0][kind], self.paths[0])

    def cells(self, kind: str) -> list[list[Block]]:
        """The blocks of "raw" or "denoised"."""
        pairs = zip(self.evaluations, self.paths, strict=True)
        return [blocks(evaluation, kind, path) for evaluation, path in pairs]

    def estimates(self, kind: str) -> tuple[Estimate, ...]:
        """All measures of "raw" or "denoised"; those of a network are the same for both."""
        cells, networks = self.cells(kind), [[evaluation] for evaluation in self.evaluations]
        for sets, path in zip(cells, self.paths, strict=True):
            for block in sets:
                complete(block, path)
        return tuple(estimate(one, networks if one.of == "network" else cells) for one in measures())

    def fid_minimum_of_three(self, kind: str) -> float | None:
        """The minimum over the first three sets of the first training; None where there are fewer."""
        first = self.cells(kind)[0]
        return min(block["fid"] for block in first[:MINIMUM_OF]) if len(first) >= MINIMUM_OF else None


def read_repeats(artifacts: Path, row: str, extra_seeds: Sequence[int]) -> Repeats | None:
    """Evaluations of a row; None without that of the first training seed.

    One of a further seed counts as not run where it is missing, or was made on other terms than the first.

    Raises:
        UserError: a file that lacks a key.
    """
    names = [row, *(f"{row}-{seed}" for seed in extra_seeds)]
    paths = [artifacts / f"evaluation/{name}.json" for name in names]
    if not paths[0].exists():
        return None
    found = {path: read_json(path) for path in paths if path.exists()}
    terms = {path: _terms(evaluation, path) for path, evaluation in found.items()}
    used = tuple(path for path in found if terms[path] == terms[paths[0]])
    missing = tuple(f"dvc repro evaluate_more@{path.stem}" for path in paths if path not in used)
    return Repeats(tuple(found[path] for path in used), used, missing)


def _terms(evaluation: Block, path: Path) -> tuple[int, Terms]:
    first, *others = blocks(evaluation, "raw", path)
    return len(others), Terms.read(first, path)


def blocks(evaluation: Block, kind: str, path: Path) -> list[Block]:
    """The blocks of all sets of "raw" or "denoised"; raises UserError where there is none."""
    return [get(evaluation, kind, path), *evaluation.get("further_sets", {}).get(kind, [])]


def estimate(one: Measure, cells: Cells) -> Estimate:
    """A measure over S x K blocks: the mean, None where a block lacks it, with its spread and its interval.

    Ends are those of the interval, or of the one block its own. Bits/dim is of a network, on the same images
    for all: its interval is over training seeds alone.
    """
    values = [[one.read(block) for block in sets] for sets in cells]
    mean, first = _mean(values), cells[0][0]
    interval = None if mean is None else nested(one.name, values)

    def own(end: str) -> float | None:
        return _mean([[one.read(block, end) for block in sets] for sets in cells])

    return Estimate(
        one.name,
        mean,
        std=own("std"),
        stderr=own("stderr"),
        low=interval.low if interval else own("low"),
        high=interval.high if interval else own("high"),
        note=one.read(first, "not_measured") or one.read(first, "how"),
        interval=interval,
    )


def _mean(values: Sequence[Sequence[float | None]]) -> float | None:
    flat = [value for sets in values for value in sets]
    known = [value for value in flat if value is not None]
    return fmean(known) if len(known) == len(flat) else None


def complete(block: Block, path: Path) -> None:
    """Raises UserError where a block lacks a measure of the first table."""
    for one in measures():
        for key in one.needed() if one.of != "network" else ():
            get(block, key, path)


def get(value: Block, key: str, path: Path) -> Any:
    """value[key] of the file `path`; raises UserError where it is not there."""
    try:
        return value[key]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} has no key {key!r}: delete it and run `dvc repro`.") from error
