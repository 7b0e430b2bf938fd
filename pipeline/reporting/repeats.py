"""A row's numbers over its networks, one for each training seed, and over the sampling sets of each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from pipeline.files import read_json
from pipeline.ncsn.errors import UserError
from pipeline.reporting import further
from pipeline.reporting.intervals import nested

AVERAGED = ("fid", "kid", "inception_score", "precision", "recall", "density", "coverage")
SPREADS = ("kid_std", "inception_score_std")
TERMS = ("n", "n_reference", "evaluator", "reference")
MEASURES = (*AVERAGED, *SPREADS, *TERMS)
"""What every block of an evaluation holds; None where the evaluator does not know it."""

Block = Mapping[str, Any]
MINIMUM_OF = 3
"""FIDs whose minimum EDM (arXiv 2206.00364) reports: one network, that many sets of samples."""


@dataclass(frozen=True)
class Repeats:
    """The evaluations of one variant, on equal terms."""

    evaluations: tuple[Block, ...]
    """The first training seed's, then the further ones'."""
    paths: tuple[Path, ...]
    not_run: tuple[str, ...]
    """What makes the others that were asked for."""

    def fields(self, key: str) -> dict[str, Any]:
        """The fields of the row `raw` or `denoised`: means, intervals, how many values are behind them."""
        blocks = list(self._grid(key))
        grid = [[measured(block, path) for block in sets] for sets, path in blocks]
        flat, first = [block for sets in grid for block in sets], grid[0]
        known = [name for name in (*AVERAGED, *SPREADS) if flat[0][name] is not None]
        found = {name: fmean(block[name] for block in flat) for name in known}
        averaged = [name for name in AVERAGED if name in known]
        intervals = (nested(name, [[block[name] for block in sets] for sets in grid]) for name in averaged)
        beside, more = further.fields([sets for sets, _ in blocks], self.evaluations)
        least = min(block["fid"] for block in first[:MINIMUM_OF]) if len(first) >= MINIMUM_OF else None
        return {
            **{name: first[0][name] for name in TERMS},
            **found,
            **beside,
            "networks": tuple(path.stem for path in self.paths),
            "training_seeds": len(grid),
            "sampling_sets": len(first),
            "fid_minimum_of_three": least,
            "intervals": (*filter(None, intervals), *more),
            "not_run": self.not_run,
        }

    def _grid(self, key: str) -> Iterator[tuple[list[Block], Path]]:
        for evaluation, path in zip(self.evaluations, self.paths, strict=True):
            yield [get(evaluation, key, path), *evaluation.get("further_sets", {}).get(key, [])], path


def read(artifacts: Path, variant: str, more_seeds: Sequence[int]) -> Repeats | None:
    """The evaluations of a variant: None without that of train.seed.

    One of a further seed that is not there, or that was made on other terms than the first (number of sets,
    samples or reference images, evaluator, reference), counts as not run: DVC has not come to it yet.

    Raises:
        UserError: a file that lacks a key.
    """
    names = [variant, *(f"{variant}-{seed}" for seed in more_seeds)]
    paths = [artifacts / f"evaluation/{name}.json" for name in names]
    if not paths[0].exists():
        return None
    found = {path: read_json(path) for path in paths if path.exists()}
    terms = {path: _terms(evaluation, path) for path, evaluation in found.items()}
    used = tuple(path for path in found if terms[path] == terms[paths[0]])
    missing = tuple(f"dvc repro evaluate_more@{path.stem}" for path in paths if path not in used)
    return Repeats(tuple(found[path] for path in used), used, missing)


def _terms(evaluation: Block, path: Path) -> tuple[Any, ...]:
    first = get(evaluation, "raw", path)
    sets = len(evaluation.get("further_sets", {}).get("raw", []))
    return (sets, *(get(first, name, path) for name in TERMS))


def measured(block: Block, path: Path) -> dict[str, Any]:
    """What every block holds; raises UserError where it does not."""
    return {name: get(block, name, path) for name in MEASURES}


def get(value: Block, key: str, path: Path) -> Any:
    """value[key] of the file `path`; raises UserError where it is not there."""
    try:
        return value[key]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} has no key {key!r}: delete it and run `dvc repro`.") from error
