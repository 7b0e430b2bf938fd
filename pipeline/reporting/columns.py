"""Columns of the Markdown table: their cells and digits."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from pipeline.git import Commit
from pipeline.metrics.measures import Measure, further, measure, results
from pipeline.reporting import verdict
from pipeline.reporting.intervals import Interval
from pipeline.reporting.papers import Published
from pipeline.reporting.rows import Estimate, Row, Table, common

DASH = "–"
NOT_RUN = "not run"
SHORT_HASH = 12

Entry = Row | Published


@dataclass(frozen=True)
class Column:
    """Column of a Markdown table: its title, and the text of the cell of each row."""

    title: str
    cell: Callable[[Entry], str]
    numeric: bool = True


def markdown_table(columns: Sequence[Column], entries: Sequence[Entry]) -> str:
    """A Markdown table, a line per entry, of the columns that have a value."""
    columns = filled(columns, entries)
    cells = [[column.cell(entry).replace("|", "\\|") for column in columns] for entry in entries]
    align = "".join("r" if column.numeric else "l" for column in columns)
    return pipe_table([column.title for column in columns], align, cells)


def filled(columns: Sequence[Column], entries: Sequence[Entry]) -> list[Column]:
    """The columns in which an entry has more than a dash."""
    return [column for column in columns if any(column.cell(entry) not in ("", DASH) for entry in entries)]


def pipe_table(head: Sequence[str], align: str, rows: Iterable[Sequence[str]]) -> str:
    """Markdown of a table; `align` has an l or r for each column."""
    rules = [":--" if side == "l" else "--:" for side in align]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rules, *rows))


def sample_counts(table: Table) -> list[int]:
    """Numbers of samples that FIDs were measured on, ascending: one column each."""
    return sorted({row.n for row in table.rows if row.measured and row.n is not None})


def result_columns(table: Table) -> list[Column]:
    """Columns of the first table: system, denoising, the papers' cells, measures and cost."""
    rows = [row for row in table.rows if row.measured]
    columns = [Column("System", _system, numeric=False), Column("Denoising", _denoising, numeric=False)]
    if table.published:
        columns.append(Column("Paper's FID", lambda e: _quoted(e, "fid")))
        columns.append(Column("Paper's IS", lambda e: _quoted(e, "inception_score")))
    columns += _fid_columns(rows) or [Column("FID", _first_cell)]
    judged = {(v.row, v.measure): v.outcome for v in verdict.against_papers(table)}
    if judged:
        columns.append(Column("FID against the paper's", lambda e: judged.get((e, "fid"), DASH)))  # type: ignore[arg-type]
    return [
        *columns,
        *(measure_column(one, rows) for one in results() if one.name != "fid"),
        Column("N", _sample_count),
        Column("NFE", _evaluations),
        _single("s / 1,000 samples", "seconds_per_1000", decimals([r.seconds_per_1000 for r in rows])),
    ]


def further_columns(rows: Sequence[Row]) -> list[Column]:
    """Columns of the small table: the further measures with their intervals."""
    return [_text("Row", _name), *(measure_column(one, rows) for one in further())]


def measure_column(one: Measure, rows: Sequence[Row]) -> Column:
    """Column of a measure: values with their spread, to the digits that the spread leaves."""
    places = _places(one, [row.estimate(one.name) for row in rows])

    def text(row: Row) -> str | None:
        return _spread(one, row.estimate(one.name), places)

    return Column(one.label, lambda e: _ours(e, text), numeric=one.spread != "stderr")


def _places(one: Measure, found: Sequence[Estimate]) -> int:
    if one.digits is not None or one.spread == "interval":
        return 3 if one.digits is None else one.digits
    if one.spread is None:
        return decimals([estimate.value for estimate in found])
    errors = [estimate.interval.stderr if estimate.interval else estimate.stderr for estimate in found]
    return decimals(errors if one.spread == "stderr" else [e.std for e in found], digits=2)


def _spread(one: Measure, found: Estimate, places: int) -> str | None:
    """A value with its interval over repetitions; of a single measurement, with the measure's own spread."""
    value, std, stderr, low, high = (
        _number(part, places) for part in (found.value, found.std, found.stderr, found.low, found.high)
    )
    if one.spread == "interval":
        ends = f" [{low}, {high}]" if low and high else ""
        return f"{value}{ends}" if value else "not measured"
    if one.spread == "stderr" and found.interval:
        return f"{value}{_ends(found.interval, places)}"
    error = {"std": std, "stderr": stderr, None: None}[one.spread]
    return f"{value} ± {error}" if value and error else value


def repeat_columns(rows: Sequence[Row]) -> list[Column]:
    """Columns of repeated rows: the parts of FID's variance, the minimum of three, then KID and IS."""
    places = max(2, decimals([row.fid for row in rows]))
    columns = [
        _text("Row", _name),
        _text("Training seeds × sampling sets", lambda row: f"{row.training_seeds} × {row.sampling_sets}"),
        *(
            Column(f"FID's std between {what}", partial(_deviation, name, places))
            for what, name in (("training seeds", "std_training"), ("sampling sets", "std_sampling"))
        ),
    ]
    if any(row.fid_minimum_of_three is not None for row in rows):
        columns.append(_single("FID, minimum of three sets (as EDM)", "fid_minimum_of_three", places))
    return [*columns, *(_with_ends(one, rows) for one in results() if one.spread == "std")]


def provenance_columns(table: Table) -> list[Column]:
    """Columns of provenance: commit, hashes, run and command; evaluator and hardware where rows differ."""
    texts: list[tuple[str, Callable[[Row], str | None]]] = [
        ("Row", _name),
        ("Commit", lambda row: Commit(row.commit, row.dirty).short()),
        ("Data sha256", lambda row: (row.data_sha256 or "")[:SHORT_HASH]),
        ("Parameters", lambda row: (row.params_sha256 or "")[:SHORT_HASH]),
        ("Checkpoint", lambda row: row.sha256("checkpoint")[:SHORT_HASH]),
        ("MLflow run", lambda row: row.run_id),
        ("Made by", lambda row: f"`{row.command}`"),
        ("Evaluator", lambda row: row.evaluator),
        ("Reference set", lambda row: row.reference_set),
        ("Versions", lambda row: row.versions),
        ("Hardware", lambda row: row.hardware),
    ]
    shared = {"Evaluator", "Reference set", "Versions", "Hardware"}
    said = {title for title in shared if common(table.rows, title.lower().replace(" ", "_")) is not None}
    return [_text(title, text) for title, text in texts if title not in said]


def checkpoint_lines(table: Table) -> list[str]:
    """Rule that chose the checkpoints, stated once where all rows share it."""
    rules = {row.system: row.checkpoint_rule for row in table.rows if row.checkpoint_rule}
    if len(set(rules.values())) == 1:
        rules = {"every row": next(iter(rules.values()))}
    return [f"Checkpoint of {system}: {rule}" for system, rule in rules.items()]


def _text(title: str, text: Callable[[Row], str | None]) -> Column:
    return Column(title, lambda entry: _ours(entry, text), numeric=False)


def _fid_columns(rows: Sequence[Row]) -> list[Column]:
    """One for each number of samples and, since the reference's size moves FID too, each reference set."""
    terms = dict.fromkeys((row.n, row.reference_set) for row in rows if row.n is not None)
    several = len({reference for _, reference in terms}) > 1
    ordered = sorted(terms, key=lambda term: term[0])
    return [_fid_column(rows, n, reference, several) for n, reference in ordered]


def _fid_column(rows: Sequence[Row], n: int, reference: str | None, several: bool) -> Column:
    own = [row for row in rows if (row.n, row.reference_set) == (n, reference)]
    places = max(2, decimals([row.fid for row in own]))
    lowest = min((row.fid for row in own if not row.is_floor and row.fid is not None), default=None)

    def cell(entry: Entry) -> str:
        if not isinstance(entry, Row) or not entry.measured:
            return _first_cell(entry)
        if entry not in own or entry.fid is None:
            return DASH
        text = f"{entry.fid:,.{places}f}"
        text = f"**{text}**" if entry.fid == lowest and not entry.is_floor else text
        return f"{text}{_ends(entry.interval('fid'), places)}"

    label = measure("fid").label
    return Column(f"{label} (N={n:,}; {reference})" if several else f"{label} (N={n:,})", cell)


def _ends(interval: Interval | None, places: int) -> str:
    return f" [{interval.low:,.{places}f}, {interval.high:,.{places}f}]" if interval else ""


def _with_ends(one: Measure, rows: Sequence[Row]) -> Column:
    """A mean with its interval over repetitions."""
    places = decimals([found.stderr for row in rows if (found := row.interval(one.name))], digits=2)

    def text(row: Row) -> str | None:
        mean = _number(row.value(one.name), places)
        return mean and f"{mean}{_ends(row.interval(one.name), places)}"

    return _text(one.label, text)


def _deviation(name: str, places: int, entry: Entry) -> str:
    return _ours(entry, lambda row: _number(getattr(row.interval("fid"), name, None), places))


def _first_cell(entry: Entry) -> str:
    unmeasured = isinstance(entry, Row) and not entry.measured
    return f"{NOT_RUN}: `{entry.command}`" if unmeasured and isinstance(entry, Row) else DASH


def _single(title: str, name: str, places: int) -> Column:
    return Column(title, lambda e: _ours(e, lambda r: _number(getattr(r, name), places)))


def decimals(values: Iterable[float | None], *, digits: int = 3, most: int = 5) -> int:
    """Decimal places that show `digits` digits of the smallest positive value, at most `most`."""
    positive = [value for value in values if value]
    smallest = min((abs(value) for value in positive), default=1.0)
    return min(max(digits - 1 - math.floor(math.log10(smallest)), 0), most)


def _number(value: float | None, places: int) -> str | None:
    return None if value is None else f"{value:,.{places}f}"


def _ours(entry: Entry, text: Callable[[Row], str | None]) -> str:
    return (text(entry) or DASH) if isinstance(entry, Row) else DASH


def _name(row: Row) -> str:
    return row.system if row.is_floor else f"`{row.system}`{' + denoising' if row.denoised else ''}"


def _system(entry: Entry) -> str:
    return f"{entry.model} ({entry.source})" if isinstance(entry, Published) else entry.code


def _denoising(entry: Entry) -> str:
    value = entry.denoised
    return DASH if value is None else ("yes" if value else "no")


def _quoted(entry: Entry, name: str) -> str:
    if isinstance(entry, Published):
        return getattr(entry, name) or DASH
    return getattr(entry, f"published_{name}") or DASH


def _sample_count(entry: Entry) -> str:
    if isinstance(entry, Published):
        return f"{entry.n:,}" if entry.n else "not stated"
    return f"{entry.n:,}" if entry.n else DASH


def _evaluations(entry: Entry) -> str:
    if isinstance(entry, Published):
        return entry.nfe or DASH
    return f"{entry.nfe:,}" if entry.nfe is not None else DASH
