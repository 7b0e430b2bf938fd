"""The columns of the Markdown table: what each cell says, and to how many digits."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from pipeline.git import Commit
from pipeline.reporting import equivalence
from pipeline.reporting.intervals import Interval
from pipeline.reporting.papers import Published
from pipeline.reporting.rows import Row, Table

DASH = "–"
NOT_RUN = "not run"
SHORT_HASH = 12

Entry = Row | Published


@dataclass(frozen=True)
class Column:
    """A column of a Markdown table: its title, and the text of the cell of each row."""

    title: str
    cell: Callable[[Entry], str]
    numeric: bool = True


def render(columns: Sequence[Column], entries: Sequence[Entry]) -> str:
    """A Markdown table, a line per entry."""
    lines = [[column.title for column in columns]]
    lines.append(["--:" if column.numeric else ":--" for column in columns])
    lines += [[column.cell(entry).replace("|", "\\|") for column in columns] for entry in entries]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def sample_counts(table: Table) -> list[int]:
    """The numbers of samples that FIDs were measured on, ascending: one column each."""
    return sorted({row.n for row in table.rows if row.measured and row.n is not None})


def result_columns(table: Table) -> list[Column]:
    """System, denoising, the papers' cells, ours, and what the samples cost."""
    rows = [row for row in table.rows if row.measured]
    columns = [Column("System", _system, numeric=False), Column("Denoising", _denoising, numeric=False)]
    columns.append(Column("Paper's FID", lambda e: _quoted(table, e, "fid")))
    if table.published:
        columns.append(Column("Paper's IS", lambda e: _quoted(table, e, "inception_score")))
    columns += _fid_columns(rows) or [Column("FID", _first_cell)]
    judged = {(v.row, v.measure): v.outcome for v in equivalence.against_papers(table)}
    if judged:
        columns.append(Column("FID against the paper's", lambda e: judged.get((e, "fid"), DASH)))  # type: ignore[arg-type]
    columns += [
        _pair("KID", rows, "kid", "kid_std"),
        _pair("IS", rows, "inception_score", "inception_score_std"),
        *(_single(name.capitalize(), name, 3) for name in ("precision", "recall", "density", "coverage")),
        Column("N", _sample_count),
        Column("NFE", _evaluations),
        _single("s / 1,000 samples", "seconds_per_1000", _places([r.seconds_per_1000 for r in rows])),
    ]
    return columns


def has_further(row: Row) -> bool:
    """Whether a row has a number of `further_columns`."""
    values = (row.fid_infinity, row.memorisation_pixels, row.memorisation_features, row.bits_per_dim)
    return any(value is not None for value in values)


def further_columns(rows: Sequence[Row]) -> list[Column]:
    """FID at infinite N, the memorisation ratios with their intervals, and bits per dimension."""
    return [
        _text("Row", _name),
        _estimate("FID, N → ∞", rows, "fid_infinity"),
        *(
            Column(f"Nearest neighbour / held-out's, {space}", partial(_memorised, space))
            for space in ("pixels", "features")
        ),
        _estimate("Bits / dim", rows, "bits_per_dim"),
    ]


def repeat_columns(rows: Sequence[Row]) -> list[Column]:
    """What repetition tells of the FID: its parts of the variance, and the minimum of three; KID and IS."""
    places = max(2, _places([row.fid for row in rows]))
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
    return [*columns, _with_ends("KID", rows, "kid"), _with_ends("IS", rows, "inception_score")]


def provenance_columns(table: Table) -> list[Column]:
    """Commit, data hash, MLflow run and command of a row; evaluator and reference set where rows differ."""
    texts: list[tuple[str, Callable[[Row], str | None]]] = [
        ("Row", _name),
        ("Commit", lambda row: Commit(row.commit, row.dirty).short()),
        ("Data sha256", lambda row: (row.data_sha256 or "")[:SHORT_HASH]),
        ("Parameters", lambda row: (row.params_sha256 or "")[:SHORT_HASH]),
        ("Checkpoint", lambda row: row.sha256("checkpoint")[:SHORT_HASH]),
        ("MLflow run", lambda row: row.run_id),
        ("Made by", lambda row: f"`{row.command}`"),
    ]
    if common(table, "evaluator") is None:
        texts.append(("Evaluator", lambda row: row.evaluator))
    if common(table, "reference_set") is None:
        texts.append(("Reference set", lambda row: row.reference_set))
    if common(table, "versions") is None:
        texts.append(("Versions", lambda row: row.versions))
    if common(table, "hardware") is None:
        texts.append(("Hardware", lambda row: row.hardware))
    return [_text(title, text) for title, text in texts]


def checkpoints(table: Table) -> list[str]:
    """What chose the checkpoints, said once where it is the same for all."""
    rules = {row.system: row.checkpoint_rule for row in table.rows if row.checkpoint_rule}
    if len(set(rules.values())) == 1:
        rules = {"every network": next(iter(rules.values()))}
    return [f"Checkpoint of {system}: {rule}" for system, rule in rules.items()]


def common(table: Table, name: str) -> str | None:
    """The value that all measured rows share in a field; None where they differ or there are none."""
    values = {getattr(row, name) for row in table.rows if row.measured}
    return values.pop() if len(values) == 1 else None


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
    places = max(2, _places([row.fid for row in own]))
    lowest = min((row.fid for row in own if not row.is_floor and row.fid is not None), default=None)

    def cell(entry: Entry) -> str:
        if not isinstance(entry, Row) or not entry.measured:
            return _first_cell(entry)
        if entry not in own or entry.fid is None:
            return DASH
        text = f"{entry.fid:,.{places}f}"
        text = f"**{text}**" if entry.fid == lowest and not entry.is_floor else text
        return f"{text}{_ends(entry.interval('fid'), places)}"

    return Column(f"FID (N={n:,}; {reference})" if several else f"FID (N={n:,})", cell)


def _ends(interval: Interval | None, places: int) -> str:
    return f" [{interval.low:,.{places}f}, {interval.high:,.{places}f}]" if interval else ""


def _with_ends(title: str, rows: Sequence[Row], name: str) -> Column:
    places = _places([found.stderr for row in rows if (found := row.interval(name))], digits=2)

    def text(row: Row) -> str | None:
        mean = _number(getattr(row, name), places)
        return mean and f"{mean}{_ends(row.interval(name), places)}"

    return _text(title, text)


def _estimate(title: str, rows: Sequence[Row], name: str) -> Column:
    """A mean with its interval or, of what was measured once, ± its own standard error."""
    once = [getattr(row, f"{name}_stderr") for row in rows if row.interval(name) is None]
    spreads = [*once, *(found.stderr for row in rows if (found := row.interval(name)))]
    places = _places(spreads, digits=2)

    def text(row: Row) -> str | None:
        mean, error = (_number(getattr(row, key), places) for key in (name, f"{name}_stderr"))
        if ends := _ends(row.interval(name), places):
            return f"{mean}{ends}"
        return f"{mean} ± {error}" if mean and error else mean

    return _text(title, text)


def _deviation(name: str, places: int, entry: Entry) -> str:
    return _ours(entry, lambda row: _number(getattr(row.interval("fid"), name, None), places))


def _memorised(space: str, entry: Entry) -> str:
    def text(row: Row) -> str | None:
        ratio, low, high = (getattr(row, f"memorisation_{space}{end}") for end in ("", "_low", "_high"))
        if ratio is None:
            return "not measured"
        return f"{ratio:.3f}" if low is None or high is None else f"{ratio:.3f} [{low:.3f}, {high:.3f}]"

    return _ours(entry, text)


def _first_cell(entry: Entry) -> str:
    unmeasured = isinstance(entry, Row) and not entry.measured
    return f"{NOT_RUN}: `{entry.command}`" if unmeasured and isinstance(entry, Row) else DASH


def _single(title: str, name: str, places: int) -> Column:
    return Column(title, lambda e: _ours(e, lambda r: _number(getattr(r, name), places)))


def _pair(title: str, rows: Sequence[Row], name: str, spread: str) -> Column:
    """A column of `mean ± standard deviation`, to two digits of the smallest deviation."""
    places = _places([getattr(row, spread) for row in rows], digits=2)

    def text(row: Row) -> str | None:
        mean, deviation = _number(getattr(row, name), places), _number(getattr(row, spread), places)
        return f"{mean} ± {deviation}" if mean and deviation else mean

    return Column(title, lambda e: _ours(e, text))


def _places(values: Iterable[float | None], *, digits: int = 3, most: int = 5) -> int:
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
    if isinstance(entry, Published):
        return f"{entry.model} ({entry.source})"
    return entry.system if entry.is_floor else f"`{entry.system}`"


def _denoising(entry: Entry) -> str:
    value = entry.denoised
    return DASH if value is None else ("yes" if value else "no")


def _quoted(table: Table, entry: Entry, name: str) -> str:
    if isinstance(entry, Published):
        return getattr(entry, name) or DASH
    absent = DASH if table.published or entry.is_floor else "none"
    return getattr(entry, f"published_{name}") or absent


def _sample_count(entry: Entry) -> str:
    if isinstance(entry, Published):
        return f"{entry.n:,}" if entry.n else "not stated"
    return f"{entry.n:,}" if entry.n else DASH


def _evaluations(entry: Entry) -> str:
    if isinstance(entry, Published):
        return entry.nfe or DASH
    return f"{entry.nfe:,}" if entry.nfe is not None else DASH
