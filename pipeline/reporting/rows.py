"""The rows of the table: what a run left in its files, one frozen object per variant x denoising."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.files import read_json
from pipeline.git import Commit
from pipeline.reporting import checkpoints, further, lineage, reference_set, repeats
from pipeline.reporting.intervals import Interval
from pipeline.reporting.papers import Published, counterpart, published
from pipeline.reporting.repeats import get, measured

SELFTEST = "reference/selftest.json"


@dataclass(frozen=True)
class Row:
    """One row: a variant with or without the last denoising step, or the floor. None is "not measured"."""

    system: str
    denoised: bool | None
    """None for the floor, which no sampler made."""
    command: str
    """What makes the row's numbers."""
    published_fid: str | None = None
    published_inception_score: str | None = None
    fid: float | None = None
    """The mean over training seeds and sampling sets, as are the measures below."""
    kid: float | None = None
    kid_std: float | None = None
    inception_score: float | None = None
    inception_score_std: float | None = None
    precision: float | None = None
    recall: float | None = None
    density: float | None = None
    coverage: float | None = None
    n: int | None = None
    """Samples in a set."""
    networks: tuple[str, ...] = ()
    """VARIANT, and VARIANT-SEED for each further training seed in the row."""
    training_seeds: int | None = None
    sampling_sets: int | None = None
    """Disjoint sets of n samples of each network."""
    intervals: tuple[Interval, ...] = ()
    """Of each measure that was measured more than once."""
    fid_minimum_of_three: float | None = None
    """Of the first three sets of the first network, as EDM reports it; not comparable with a mean."""
    not_run: tuple[str, ...] = ()
    """The commands of the training seeds that were asked for and are not in the row."""
    n_reference: int | None = None
    """Real images they are compared with: those of `reference_set`."""
    nfe: int | None = None
    """Network evaluations per sample, counted by wrapping the network."""
    seconds_per_1000: float | None = None
    """Wall-clock seconds per 1,000 samples."""
    fid_infinity: float | None = None
    """FID extrapolated to infinitely many samples."""
    fid_infinity_stderr: float | None = None
    """Of one set, the mean over all; so is that of bits/dim, of one network."""
    memorisation_pixels: float | None = None
    """Distance to the nearest training image, samples' over held-out images': well below 1 is copying."""
    memorisation_pixels_low: float | None = None
    """Ends of the interval over seeds and sets, where there are several; else over resamplings of the one."""
    memorisation_pixels_high: float | None = None
    memorisation_features: float | None = None
    memorisation_features_low: float | None = None
    memorisation_features_high: float | None = None
    bits_per_dim: float | None = None
    """Of held-out images, by the probability-flow ODE; the same for both rows of a network."""
    bits_per_dim_stderr: float | None = None
    bits_per_dim_note: str | None = None
    """How it was measured, or why not."""
    checkpoint_rule: str | None = None
    """What chose the checkpoints behind the row; None for the floor."""
    evaluator: str | None = None
    reference_set: str | None = None
    commit: str | None = None
    dirty: bool = False
    data_sha256: str | None = None
    params_sha256: str | None = None
    """Of the values of params.yaml that the numbers depend on."""
    run_id: str | None = None
    """The evaluation's run in MLflow; None where tracking was off. `commit` is that run's own."""
    files: tuple[lineage.File, ...] = ()
    made: tuple[lineage.Made, ...] = ()
    """The runs behind the numbers, the evaluation's last; `dirty` if any of them was."""

    @property
    def measured(self) -> bool:
        """Whether the evaluation behind the row has run."""
        return self.fid is not None

    @property
    def is_floor(self) -> bool:
        """Whether this is the row of real images against real images."""
        return self.denoised is None

    def interval(self, measure: str) -> Interval | None:
        """The interval of a measure; None where it was measured once."""
        return next((found for found in self.intervals if found.measure == measure), None)

    @property
    def kind(self) -> str | None:
        """What the samples are called in files; None for the floor, which has none."""
        return None if self.is_floor else ("denoised" if self.denoised else "raw")

    @property
    def network(self) -> Path:
        """The folder of the first network behind the row, from the repository's root."""
        found = (Path(file.path).parent for file in self.files if file.what == "checkpoint")
        return next(found, Path("artifacts/models") / self.system)

    def sha256(self, what: str) -> str:
        """Of the file that the row names so, such as "checkpoint"; empty without one."""
        return next((file.sha256 for file in self.files if file.what == what), "")

    @property
    def versions(self) -> str | None:
        """Of the packages that made the row, each stage's own where they differ."""
        return lineage.agreed(self.made, "versions")

    @property
    def hardware(self) -> str | None:
        """What the row was made on, each stage's own where they differ."""
        return lineage.agreed(self.made, "hardware")

    @property
    def label(self) -> str:
        """The row's name where its denoising is not a column of its own."""
        how = "with" if self.denoised else "no"
        return self.system if self.is_floor else f"{self.system}, {how} denoising"


@dataclass(frozen=True)
class Table:
    """A data set's rows beside what the papers printed for it."""

    data: str
    data_sha256: str
    published: tuple[Published, ...]
    rows: tuple[Row, ...]
    """The variants in order, without denoising before with it; the floors at the end."""
    margin: float | None = None
    """Relative; what counts as equal to a paper's number. None: rows are not judged by the papers'."""
    selftest: str | None = None
    """How many of the answers that are known the evaluator gave; None where it was not asked."""

    def row(self, system: str, denoised: bool | None) -> Row | None:
        """The row of a system, or None."""
        return next((row for row in self.rows if (row.system, row.denoised) == (system, denoised)), None)

    def floors(self) -> tuple[Row, ...]:
        """The floor rows: one for each number of real images, and each reference set, of an evaluation."""
        return tuple(row for row in self.rows if row.is_floor)

    def headline(self) -> dict[str, float]:
        """FID and NFE of what was measured, by names such as fid/tuned/denoised and fid/floor, the latter
        with the number of reference images where there are several."""
        floors = self.floors()
        named = {"floor" if len(floors) == 1 else f"floor/{row.n_reference}": row for row in floors}
        for row in self.rows:
            if not row.is_floor:
                named[f"{row.system}/{'denoised' if row.denoised else 'raw'}"] = row
        found = {f"{key}/{name}": getattr(row, key) for key in ("fid", "nfe") for name, row in named.items()}
        return {name: value for name, value in found.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        """The table as plain data; `from_json` gives the same table back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Table":
        """The inverse of `to_json`."""
        papers = tuple(Published(**row) for row in value["published"])
        rows = tuple(Row(**(lineage.plain(row) | _tuples(row))) for row in value["rows"])
        return cls(value["data"], value["data_sha256"], papers, rows, value["margin"], value.get("selftest"))


def _tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    """JSON's lists as a row holds them."""
    intervals = tuple(Interval(**found) for found in row["intervals"])
    return {"intervals": intervals} | {key: tuple(row.get(key, ())) for key in ("networks", "not_run")}


def build(
    artifacts: Path,
    variants: Sequence[str],
    manifest: Mapping[str, Any],
    commit: Commit,
    runs: Mapping[str, tuple[lineage.Made, ...]] | None = None,
    *,
    more_seeds: Sequence[int] = (),
    margin: float | None = None,
) -> Table:
    """Read a run's files into a table.

    A variant that a paper has a row of, and that is not among `variants`, gets rows that were not run.

    Args:
        artifacts: the folder of the stages' outputs.
        variants: names, in the table's order; one that was not evaluated gets rows without numbers.
        manifest: of the data set, with its name, shape (N, C, H, W) and the sha256 of its images.
        commit: what was checked out.
        runs: network (VARIANT or VARIANT-SEED) -> the runs that made its numbers.
        more_seeds: training seeds after the first, whose networks are called VARIANT-SEED.
        margin: see `Table`.

    Raises:
        UserError: a file that an evaluated variant must have is missing or lacks a key.
    """
    name, digest = manifest["name"], manifest["sha256"]["images"]
    papers = published(name, manifest["shape"][-1])
    plan = lineage.Plan.read(artifacts.parent)
    origin = lineage.Lineage(artifacts, digest, commit, runs or {}, plan)
    rows: list[Row] = []
    floors: dict[Row, str] = {}
    for variant in variants:
        own = _variant_rows(artifacts, variant, manifest, more_seeds)
        rows += [_join(row, papers, origin.of(variant, row.kind, row.networks)) for row in own]
        if floor := _floor_row(artifacts, variant, manifest):
            floors.setdefault(floor, variant)
    rows += [_join(row, papers, origin.of(row.system, row.kind)) for row in _absent_rows(papers, variants)]
    rows += [_join(row, (), origin.of(variant, row.kind)) for row, variant in floors.items()]
    return Table(name, digest, papers, tuple(rows), margin, _selftest(artifacts))


def _join(row: Row, papers: tuple[Published, ...], extra: Mapping[str, Any]) -> Row:
    paper = counterpart(papers, row.system, bool(row.denoised)) if not row.is_floor else None
    quoted: dict[str, Any] = {}
    if paper:
        quoted = {"published_fid": paper.fid, "published_inception_score": paper.inception_score}
    return dataclasses.replace(row, **quoted, **extra)


def _variant_rows(
    artifacts: Path, variant: str, manifest: Mapping[str, Any], more_seeds: Sequence[int]
) -> Iterator[Row]:
    command = f"dvc repro evaluate@{variant}"
    found = repeats.read(artifacts, variant, more_seeds)
    for denoised, key in ((False, "raw"), (True, "denoised")):
        if found is None:
            yield Row(variant, denoised, command)
            continue
        fields, cost = found.fields(key), _cost(artifacts, variant, key)
        cost |= {"checkpoint_rule": checkpoints.rule(artifacts, fields["networks"])}
        yield Row(variant, denoised, command, **_named(fields, manifest), **cost)


def _absent_rows(papers: Sequence[Published], variants: Sequence[str]) -> Iterator[Row]:
    for paper in papers:
        if paper.variant and paper.variant not in variants:
            yield Row(paper.variant, paper.denoised, with_variant(variants, paper.variant))


def with_variant(variants: Sequence[str], added: str) -> str:
    """The command that runs the pipeline with one variant more."""
    return f"dvc exp run -S 'variants=[{','.join(dict.fromkeys([*variants, added]))}]'"


def _floor_row(artifacts: Path, variant: str, manifest: Mapping[str, Any]) -> Row | None:
    path = artifacts / f"evaluation/{variant}.json"
    if not path.exists():
        return None
    block = get(read_json(path), "floor", path)
    fields = measured(block, path) | further.fields([[block]], [{}])[0]
    name = reference_set.floor(fields["reference"])
    return Row(name, None, "dvc repro evaluate", **_named(fields, manifest))


def _selftest(artifacts: Path) -> str | None:
    path = artifacts / SELFTEST
    if not path.exists():
        return None
    checks = read_json(path)
    passed = sum(get(check, "passed", path) for check in checks)
    return f"{passed} of {len(checks)} known answers within tolerance (artifacts/{SELFTEST})"


def _named(fields: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with `reference` in the words of `reference_set`."""
    rest = {key: value for key, value in fields.items() if key != "reference"}
    return rest | {"reference_set": reference_set.described(fields, manifest)}


def _cost(artifacts: Path, variant: str, key: str) -> dict[str, Any]:
    path, clock = (
        artifacts / f"samples/{variant}/manifest.json",
        artifacts / f"metrics/generate_{variant}.json",
    )
    manifest = read_json(path)
    seconds, count = get(read_json(clock), "seconds", clock), get(manifest, "num_samples", path)
    count *= manifest.get("sets", 1)
    return {"nfe": get(get(manifest, "nfe", path), key, path), "seconds_per_1000": 1000 * seconds / count}
