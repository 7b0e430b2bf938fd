"""The table as Markdown, CSV and JSON: three views of the same rows.

Two rules of the field are kept here. FIDs of different sample counts never share a column, since the
same model scores 25 to 30 points higher on 1,000 samples than on 50,000. And a number that was not
measured is never left blank: the cell says what would measure it.
"""

import csv
import dataclasses
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.reporting import columns, equivalence, verdict
from pipeline.reporting.intervals import LEVEL
from pipeline.reporting.papers import TERMS, Published
from pipeline.reporting.rows import Row, Table

NONE_PUBLISHED = "no published number for this data set"
SPREADS = "KID's ± is the spread over subsets, IS's the spread over splits, and neither is"
WITHOUT_CLASSES = (
    "There is no IS, since the evaluator's network tells no classes. KID's ± is the spread over subsets, not"
)


def markdown(table: Table) -> str:
    """The results, the verdict under them, and the provenance of each row."""
    parts = [results(table), verdict_lines(table), "**Where each row comes from**", provenance(table)]
    return "\n\n".join(parts) + "\n"


def results(table: Table) -> str:
    """The papers' rows, ours, and the floor, as one Markdown table with notes; then what no paper has."""
    entries: list[columns.Entry] = [*table.published, *table.rows]
    first = columns.render(columns.result_columns(table), entries)
    return "\n\n".join([first, "\n".join(_notes(table)), *_further(table)])


def _further(table: Table) -> Iterator[str]:
    """Small tables of what no paper's table has, each where some row has it."""
    measured = [row for row in table.rows if row.measured]
    if any(columns.has_further(row) for row in measured):
        yield columns.render(columns.further_columns(measured), measured)
        if notes := list(_further_notes(measured)):
            yield "\n".join(notes)
    repeated = [row for row in measured if row.intervals]
    if repeated:
        yield columns.render(columns.repeat_columns(repeated), repeated)


def _further_notes(measured: Sequence[Row]) -> Iterator[str]:
    """Why a cell of that table is empty, and what its intervals are over."""
    missing: dict[str, dict[str, None]] = {}
    for row in measured:
        if row.bits_per_dim is None and row.bits_per_dim_note:
            missing.setdefault(row.bits_per_dim_note, {})[f"`{row.system}`"] = None
    yield from (f"- Bits / dim of {', '.join(names)}: none, {why}." for why, names in missing.items())
    if any(row.intervals for row in measured):
        yield (
            f"- Of a repeated row, brackets are {LEVEL:.0%} intervals over training seeds and sampling sets, "
            "as above; those of bits / dim, of the same held-out images each time, over training seeds alone."
        )


def verdict_lines(table: Table) -> str:
    """The computed verdict as a Markdown list."""
    lines = "\n".join(f"- {text}" for text in verdict.sentences(table))
    return f"**Verdict**, computed from the rows above:\n\n{lines}"


def provenance(table: Table) -> str:
    """Where each row comes from, with what all rows share said once."""
    shared = [
        f"- {title}: {columns.common(table, name)}"
        for title, name in (
            ("Evaluator of every row", "evaluator"),
            ("Reference set", "reference_set"),
            ("Versions", "versions"),
            ("Hardware", "hardware"),
        )
        if columns.common(table, name) is not None
    ]
    shared += [f"- The evaluator's self-test: {table.selftest}"] if table.selftest else []
    shared += [f"- {text}" for text in columns.checkpoints(table)]
    listed = columns.render(columns.provenance_columns(table), table.rows)
    return "\n\n".join(["\n".join(shared), listed] if shared else [listed])


def to_csv(table: Table) -> str:
    """Every field of every row at full precision; one FID column for each sample count."""
    counts = columns.sample_counts(table)
    fields = [name for name in Row.__dataclass_fields__ if name not in ("fid", "intervals", "not_run")]
    fids = [f"fid_n{n}" for n in counts]
    ends = [n for n in dict.fromkeys(n for row in table.rows for n in _ends(row)) if n not in fields]
    out = io.StringIO()
    writer = csv.DictWriter(out, ["kind", "source", *fields, *fids, *ends], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_csv_published(paper) for paper in table.published)
    for row in table.rows:
        values = {name: _plain(getattr(row, name)) for name in fields}
        kind = "floor" if row.is_floor else "ours"
        fid = {f"fid_n{row.n}": _plain(row.fid)} if row.measured else {}
        writer.writerow({"kind": kind, "source": "this run", **values, **fid, **_ends(row)})
    return out.getvalue()


def to_json(table: Table) -> dict[str, Any]:
    """The table as data, with the verdict beside it; `Table.from_json` reads it back."""
    floor = [
        {"system": v.row.system, "denoised": v.row.denoised, "ratio": v.ratio, "within": v.within}
        for v in verdict.against_floor(table)
    ]
    tuned = [{"denoised": v.row.denoised, "holds": v.holds} for v in verdict.against_baseline(table)]
    judged = {"margin": verdict.MARGIN, "against_floor": floor, "tuned_against_ncsnv2": tuned}
    papers: list[dict[str, Any]] = [
        {"system": v.row.system, "denoised": v.row.denoised, "measure": v.measure, "published": v.published}
        | {"outcome": v.outcome, "interval": v.interval, "reason": v.reason}
        for v in equivalence.against_papers(table)
    ]
    judged |= {"paper_margin": table.margin, "alpha": equivalence.ALPHA, "against_papers": papers}
    return table.to_json() | {"verdict": judged | {"sentences": verdict.sentences(table)}}


def repetition(table: Table) -> str:
    """How often everything was repeated, and what the intervals are over."""
    counts = {(r.training_seeds, r.sampling_sets) for r in table.rows if r.measured and not r.is_floor}
    if not any(row.intervals for row in table.rows):
        return "One training seed and one sampling set, so that no interval between runs is known."
    most = max(seeds or 1 for seeds, _ in counts)
    sets = max(found or 1 for _, found in counts)
    over = "training seeds and sampling sets" if most > 1 else "sampling sets of one training seed alone"
    few = " at most" if len(counts) > 1 else ""
    return (
        f"Means over{few} {_count(most, 'training seed')} of {_count(sets, 'sampling set')} each, with "
        f"{LEVEL:.0%} intervals over {over}; N is of one set."
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def _ends(row: Row) -> dict[str, float]:
    """The intervals' ends as cells of a CSV line."""
    return {
        f"{found.measure}_{end}": getattr(found, end) for found in row.intervals for end in ("low", "high")
    }


def _notes(table: Table) -> list[str]:
    measured = [row for row in table.rows if row.measured]
    classes = not measured or any(row.inception_score is not None for row in measured)
    seeds = f"{repetition(table)} {SPREADS if classes else WITHOUT_CLASSES} the spread between runs."
    if not table.published:
        return [f"Paper's FID: {NONE_PUBLISHED} ({table.data}). {seeds}"]
    noted = [f"{row.model}: {row.note}" for row in table.published if row.note]
    terms = "; ".join([TERMS[table.published], *noted]) if table.published in TERMS else "; ".join(noted)
    return [f"Papers' cells are quoted as printed, by the papers' own evaluators; {terms}. {seeds}"]


def _plain(value: Any) -> Any:
    """A cell: what a row holds several of as JSON, None as nothing."""
    if isinstance(value, tuple):
        return json.dumps(value, default=dataclasses.asdict)
    return "" if value is None else value


def _csv_published(paper: Published) -> dict[str, Any]:
    values = {
        "kind": "published",
        "source": paper.source,
        "system": paper.model,
        "denoised": paper.denoised,
        "published_fid": paper.fid,
        "published_inception_score": paper.inception_score,
        "n": paper.n,
        "nfe": paper.nfe,
    }
    return {name: _plain(value) for name, value in values.items()}
