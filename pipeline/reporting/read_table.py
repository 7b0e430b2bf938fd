"""Table read from artifacts/: its rows, the floor, and estimates over training seeds and sampling sets."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pipeline.data.dataset import Manifest
from pipeline.files import read_json
from pipeline.git import Commit
from pipeline.metrics.drawn import Drawn
from pipeline.metrics.measures import Measure, Values, measures
from pipeline.ncsn.errors import UserError
from pipeline.reporting import lineage
from pipeline.reporting.intervals import nested
from pipeline.reporting.papers import NETWORKS, Published, counterpart, published
from pipeline.reporting.rows import FLOOR, TRAIN_FLOOR, Estimate, Row, Table, with_row
from pipeline.selected_checkpoint import choice

SELFTEST = "features/selftest.json"
TRAIN = "train"
LAST = "the last one"
Cells = Sequence[Sequence[Values]]
"""(S, K): of K sets of samples of each of S trainings."""
MINIMUM_OF = 3
"""FIDs whose minimum EDM (arXiv 2206.00364) reports: one network, that many sets of samples."""


@dataclasses.dataclass(frozen=True)
class Terms:
    """Terms of an evaluation: numbers on other terms are not averaged."""

    n: int
    n_reference: int
    evaluator: str
    reference: str

    @classmethod
    def read(cls, block: Values, path: Path) -> "Terms":
        """Of one set of images; raises UserError where the file `path` lacks a key."""
        return cls(**{name: get(block, name, path) for name in cls.__dataclass_fields__})


@dataclasses.dataclass(frozen=True)
class Repeats:
    """Evaluations of one row, on equal terms."""

    evaluations: tuple[Values, ...]
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

    def cells(self, kind: str) -> list[list[Values]]:
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


def read_table(
    artifacts: Path,
    rows: Mapping[str, str],
    manifest: Manifest,
    commit: Commit,
    runs: Mapping[str, tuple[lineage.Made, ...]] | None = None,
    *,
    extra_seeds: Sequence[int] = (),
    margin: float | None = None,
) -> Table:
    """Read a run's files into a table.

    A row that reproduces one of a paper's, and that is not among `rows`, is there as not run.

    Args:
        artifacts: the folder of the stages' outputs.
        rows: ROW: NETWORK, in the table's order; one that was not evaluated has no numbers.
        manifest: of the data set.
        commit: what is checked out.
        runs: by ROW or ROW-SEED, the runs that made its numbers.
        extra_seeds: training seeds after the first: their rows are called ROW-SEED.
        margin: see `Table`.

    Raises:
        UserError: a file that an evaluated row must have is missing or lacks a key.
    """
    name, digest = manifest["name"], manifest["sha256"]["images"]
    papers = published(name, manifest["shape"][-1])
    plan = lineage.StageGraph.read(artifacts.parent)
    origin = lineage.Lineage(artifacts, digest, commit, runs or {}, plan)
    found: list[Row] = []
    floors: dict[Row, str] = {}
    for system, network in rows.items():
        own = _rows(artifacts, system, network, manifest, extra_seeds)
        found += [_join(row, papers, origin.of(system, row.kind, row.names)) for row in own]
        if floor := _floor(artifacts, system, manifest):
            floors.setdefault(floor, system)
    found += [_join(row, papers, origin.of(row.system, row.kind)) for row in _absent(papers, rows)]
    found += [_join(row, (), origin.of(system, row.kind)) for row, system in floors.items()]
    return Table(name, digest, papers, tuple(found), margin, _selftest(artifacts))


def _join(row: Row, papers: tuple[Published, ...], origin: lineage.Origin) -> Row:
    if not row.is_floor and (paper := counterpart(papers, row.system, bool(row.denoised))):
        row = dataclasses.replace(row, published_fid=paper.fid, published_inception_score=paper.inception_score)
    return dataclasses.replace(row, **origin)


def _rows(artifacts: Path, system: str, network: str, manifest: Manifest, extra_seeds: Sequence[int]) -> Iterator[Row]:
    found = read_repeats(artifacts, system, extra_seeds)
    for denoised in (False, True):
        row = Row(system, denoised, f"dvc repro evaluate@{system}", network)
        yield _measured(row, found, artifacts, manifest) if found else row


def _measured(row: Row, found: Repeats, artifacts: Path, manifest: Manifest) -> Row:
    kind = str(row.kind)
    drawn, clock = (
        Drawn.read(artifacts / f"samples/{row.system}"),
        artifacts / f"metrics/generate_{row.system}.json",
    )
    seconds, count = get(read_json(clock), "seconds", clock), drawn.num_samples * drawn.sample_sets
    return dataclasses.replace(
        _on_terms(row, found.terms(kind), manifest),
        measures=found.estimates(kind),
        names=found.names,
        training_seeds=len(found.names),
        sampling_sets=len(found.cells(kind)[0]),
        fid_minimum_of_three=found.fid_minimum_of_three(kind),
        not_run=found.not_run,
        checkpoint_rule=checkpoint_rule(artifacts, found.names),
        nfe=get(drawn.nfe, kind, drawn.folder / "manifest.json"),
        seconds_per_1000=1000 * seconds / count,
    )


def _on_terms(row: Row, terms: Terms, manifest: Manifest) -> Row:
    return dataclasses.replace(
        row,
        n=terms.n,
        n_reference=terms.n_reference,
        evaluator=terms.evaluator,
        reference_set=described(terms, manifest),
    )


def _absent(papers: Sequence[Published], rows: Mapping[str, str]) -> Iterator[Row]:
    """The rows of ours that a paper has and that are not among those of params.yaml."""
    for paper in papers:
        if paper.row and paper.row not in rows:
            network = NETWORKS[paper.row]
            yield Row(paper.row, paper.denoised, with_row(rows, paper.row, network), network)


def _floor(artifacts: Path, system: str, manifest: Manifest) -> Row | None:
    path = artifacts / f"evaluation/{system}.json"
    if not path.exists():
        return None
    block = get(read_json(path), "floor", path)
    complete(block, path)
    terms = Terms.read(block, path)
    row = Row(FLOOR if terms.reference == TRAIN else TRAIN_FLOOR, None, "dvc repro evaluate")
    found = tuple(estimate(one, [[block]]) for one in measures() if one.of == "images")
    return dataclasses.replace(_on_terms(row, terms, manifest), measures=found)


def _selftest(artifacts: Path) -> str | None:
    path = artifacts / SELFTEST
    if not path.exists():
        return None
    checks = read_json(path)
    passed = sum(get(check, "passed", path) for check in checks)
    return f"{passed} of {len(checks)} known answers within tolerance (artifacts/{SELFTEST})"


def described(terms: Terms, manifest: Manifest) -> str:
    """The reference set in words, such as `celeba, test split (19,962 images)`."""
    count = f"({terms.n_reference:,} images)"
    if terms.reference == TRAIN:
        return f"{manifest['name']}, train split {count}"
    own = manifest["split"]["held_out_source_rows"] is None
    split = f"{'test' if own else 'held-out'} split"
    if terms.reference == "held_out":
        return f"{manifest['name']}, {split} {count}"
    return f"{manifest['name']}, the half of the {split} that no search judged by {count}"


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Snapshot of a training, with FIDs of a few samples of it."""

    step: int
    raw: float | None
    denoised: float | None


@dataclasses.dataclass(frozen=True)
class CheckpointChoice:
    """Choice of the checkpoint behind a row among the snapshots of its training."""

    points: tuple[Snapshot, ...]
    step: int
    """Of the one that was chosen."""
    kind: str
    """raw or denoised: of which samples its FID is the lowest."""
    num_samples: int
    seed: int

    @property
    def how(self) -> str:
        """`with denoising` or `without denoising`."""
        return "with denoising" if self.kind == "denoised" else "without denoising"

    def fids(self) -> dict[int, float]:
        """By step the FIDs of the samples that it was chosen by."""
        pairs = {point.step: getattr(point, self.kind) for point in self.points}
        return {step: fid for step, fid in pairs.items() if fid is not None}


def choices(artifacts: Path, names: Sequence[str]) -> dict[str, CheckpointChoice]:
    """How the checkpoint of each of ROW and ROW-SEED was chosen, where there were several."""
    found = {name: choice(artifacts, name) for name in names}
    return {
        name: CheckpointChoice(
            tuple(Snapshot(point["step"], point["raw"], point["denoised"]) for point in about["points"]),
            *(about[key] for key in ("step", "kind", "num_samples", "seed")),
        )
        for name, about in found.items()
        if "points" in about
    }


def checkpoint_rule(artifacts: Path, names: Sequence[str]) -> str:
    """What chose a row's checkpoints, in words; "the last one" where there was no choice."""
    found = list(choices(artifacts, names).values())
    if not found:
        return LAST
    steps = ", ".join(f"step {one.step:,} ({one.how})" for one in found)
    seeds = ", ".join(str(one.seed) for one in found)
    return (
        f"lowest FID on {found[0].num_samples:,} samples, with or without denoising, of "
        f"{len(found[0].points)} snapshots: {steps}; samples from seed {seeds}, not the report's"
    )


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


def _terms(evaluation: Values, path: Path) -> tuple[int, Terms]:
    first, *others = blocks(evaluation, "raw", path)
    return len(others), Terms.read(first, path)


def blocks(evaluation: Values, kind: str, path: Path) -> list[Values]:
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


def complete(block: Values, path: Path) -> None:
    """Raises UserError where a block lacks a measure of the first table."""
    for one in measures():
        for key in one.needed() if one.of != "network" else ():
            get(block, key, path)


def get(value: Values, key: str, path: Path) -> Any:
    """value[key] of the file `path`; raises UserError where it is not there."""
    try:
        return value[key]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} has no key {key!r}: delete it and run `dvc repro`.") from error
