"""Rows of the table: a frozen object per row of params.yaml, with and without denoising, and per floor."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.files import read_json
from pipeline.ncsn.errors import UserError
from pipeline.reporting import lineage
from pipeline.reporting.intervals import Interval
from pipeline.reporting.papers import Published

Cells = dict[str, object]
"""Cells of a line of a table, by column."""
FLOOR, TRAIN_FLOOR = "held-out data (the floor)", "training data (the floor)"


@dataclass(frozen=True)
class Estimate:
    """Estimate of a measure (`pipeline.metrics.measures`): the mean over training seeds and sampling sets."""

    measure: str
    value: float | None
    """None: not measured."""
    std: float | None = None
    """KID: over subsets, inception score: over splits; of one set, the mean over all. So is `stderr`."""
    stderr: float | None = None
    low: float | None = None
    """Ends of `interval`; of what was measured once, of the interval that the measure itself gives."""
    high: float | None = None
    note: str | None = None
    """How it was measured, or why not."""
    interval: Interval | None = None
    """Over training seeds and sampling sets; None where it was measured once."""

    def cells(self) -> Cells:
        """Known values as cells of a CSV line: NAME, NAME_std and so on."""
        ends = ("std", "stderr", "low", "high", "note")
        named = {self.measure: self.value} | {f"{self.measure}_{end}": getattr(self, end) for end in ends}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class Row:
    """One row: a sampler on a network with or without the last denoising step, or the floor."""

    system: str
    """The key of `rows` in params.yaml, or the name of the floor."""
    denoised: bool | None
    """None for the floor, which no sampler made."""
    command: str
    """What makes the row's numbers."""
    network: str | None = None
    """The network that its samples are drawn from; None for the floor."""
    published_fid: str | None = None
    published_inception_score: str | None = None
    measures: tuple[Estimate, ...] = ()
    """Of every measure; () where the row was not run."""
    n: int | None = None
    """Samples in a set."""
    names: tuple[str, ...] = ()
    """ROW, and ROW-SEED for each further training seed in the row."""
    training_seeds: int | None = None
    sampling_sets: int | None = None
    """Disjoint sets of n samples of each training."""
    fid_minimum_of_three: float | None = None
    """Of the first three sets of the first training, as EDM reports it; not comparable with a mean."""
    not_run: tuple[str, ...] = ()
    """Commands of the requested training seeds that are not in the row."""
    n_reference: int | None = None
    """Real images they are compared with: those of `reference_set`."""
    nfe: int | None = None
    """Network evaluations per sample, counted by wrapping the network."""
    seconds_per_1000: float | None = None
    """Wall-clock seconds per 1,000 samples."""
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

    def estimate(self, name: str) -> Estimate:
        """Of a measure by its name; one of no value where the row has it not."""
        return next((one for one in self.measures if one.measure == name), Estimate(name, None))

    def value(self, name: str) -> float | None:
        """Of a measure by its name; None where it was not measured."""
        return self.estimate(name).value

    def interval(self, name: str) -> Interval | None:
        """Of a measure by its name; None where it was measured once."""
        return self.estimate(name).interval

    @property
    def fid(self) -> float | None:
        """The measure that rows are ranked by."""
        return self.value("fid")

    @property
    def measured(self) -> bool:
        """Whether the evaluation behind the row has run."""
        return self.fid is not None

    @property
    def repeated(self) -> bool:
        """Whether any measure was measured more than once."""
        return any(one.interval for one in self.measures)

    @property
    def is_floor(self) -> bool:
        """Whether this is the row of real images against real images."""
        return self.denoised is None

    @property
    def kind(self) -> str | None:
        """What the samples are called in files; None for the floor, which has none."""
        return None if self.is_floor else ("denoised" if self.denoised else "raw")

    @property
    def how(self) -> str:
        """`with denoising` or `without denoising`."""
        return f"{'with' if self.denoised else 'without'} denoising"

    @property
    def label(self) -> str:
        """Name of the row with its denoising."""
        return self.system if self.is_floor else f"{self.system}, {self.how}"

    @property
    def code(self) -> str:
        """The row's name in Markdown, with its network where that has another name."""
        if self.is_floor:
            return self.system
        other = self.network not in (None, self.system)
        return f"`{self.system}` (network `{self.network}`)" if other else f"`{self.system}`"

    @property
    def model_folder(self) -> Path:
        """The folder of the first training behind the row, from the repository's root."""
        found = (Path(file.path).parent for file in self.files if file.what == "checkpoint")
        return next(found, Path("artifacts/models") / (self.network or self.system))

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

    def cells(self) -> Cells:
        """All fields by name, the measures as `Estimate.cells`."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del own["measures"]
        return own | {key: value for one in self.measures for key, value in one.cells().items()}

    def to_json(self) -> dict[str, Any]:
        """The row as plain data, its measures by name."""
        value = dataclasses.asdict(self)
        return value | {"measures": {one.pop("measure"): one for one in value["measures"]}}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Row":
        """The inverse of `to_json`."""
        measures = tuple(
            Estimate(name, **{**one, "interval": Interval(**one["interval"]) if one["interval"] else None})
            for name, one in value["measures"].items()
        )
        objects = {
            "measures": measures,
            "names": tuple(value["names"]),
            "not_run": tuple(value["not_run"]),
            "files": tuple(lineage.File(**one) for one in value.get("files", ())),
            "made": tuple(lineage.Made(**one) for one in value.get("made", ())),
        }
        return cls(**{**value, **objects})


@dataclass(frozen=True)
class Table:
    """Table of a data set: its rows, with what the papers printed for it."""

    data: str
    data_sha256: str
    published: tuple[Published, ...]
    rows: tuple[Row, ...]
    """In the order of params.yaml, without denoising before with it; the floors at the end."""
    margin: float | None = None
    """Relative; what counts as equal to a paper's number. None: rows are not judged by the papers'."""
    selftest: str | None = None
    """How many known answers the evaluator reproduced; None without a self-test."""

    @classmethod
    def read(cls, path: Path) -> "Table":
        """Content of a table.json; raises UserError where it is missing or not a table."""
        try:
            return cls.from_json(read_json(path))
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is not a table of `dvc repro report` ({error}): name a table.json.") from error

    def row(self, system: str, denoised: bool | None) -> Row | None:
        """The row of a system, or None."""
        return next((row for row in self.rows if (row.system, row.denoised) == (system, denoised)), None)

    def drawn(self) -> dict[str, str]:
        """ROW: NETWORK of the rows that a sampler makes."""
        return {row.system: row.network or row.system for row in self.rows if not row.is_floor}

    def floors(self) -> tuple[Row, ...]:
        """The floor rows: one for each number of real images, and each reference set, of an evaluation."""
        return tuple(row for row in self.rows if row.is_floor)

    def headline(self) -> dict[str, float]:
        """FID and NFE of what was measured, by names such as fid/tuned/denoised and fid/floor, the latter
        with the number of reference images where there are several."""
        floors = self.floors()
        named = {"floor" if len(floors) == 1 else f"floor/{row.n_reference}": row for row in floors}
        named |= {f"{row.system}/{row.kind}": row for row in self.rows if not row.is_floor}
        found = {f"{key}/{name}": getattr(row, key) for key in ("fid", "nfe") for name, row in named.items()}
        return {name: value for name, value in found.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        """The table as plain data; `from_json` gives the same table back."""
        return dataclasses.asdict(self) | {"rows": [row.to_json() for row in self.rows]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Table":
        """The inverse of `to_json`."""
        papers = tuple(Published(**row) for row in value["published"])
        rows = tuple(map(Row.from_json, value["rows"]))
        return cls(value["data"], value["data_sha256"], papers, rows, value["margin"], value.get("selftest"))


def with_row(rows: Mapping[str, str], row: str, network: str) -> str:
    """The command that runs the pipeline with one row more, whose sampler params.yaml has.

    Args:
        rows: ROW: NETWORK of those there are.
    """
    changes = [f"-S '+rows.{row}={network}'"]
    if network not in rows.values():
        changes.insert(0, f"-S 'networks=[{','.join(dict.fromkeys([*rows.values(), network]))}]'")
    return f"dvc exp run {' '.join(changes)}"


def is_whole_split(reference_set: str | None, split: str) -> bool:
    """Whether a reference set is all of a split, "train" or "test"; None counts as train."""
    return f", {split} split (" in (reference_set or ", train split (")


def common(rows: Sequence[Row], name: str) -> str | None:
    """The value that all measured rows share in a field; None where they differ or there are none."""
    values = {getattr(row, name) for row in rows if row.measured}
    return values.pop() if len(values) == 1 else None
