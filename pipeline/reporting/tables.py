"""Table as Markdown, CSV and JSON: three views of the same rows.

FIDs of different sample counts never share a column, since the same model scores 25 to 30 points higher on
1,000 samples than on 50,000. A cell is never blank: it names the command that measures the missing number.
"""

import csv
import dataclasses
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.metrics.measures import further, measures
from pipeline.reporting import columns, verdict
from pipeline.reporting.intervals import LEVEL
from pipeline.reporting.papers import TERMS, Published
from pipeline.reporting.rows import Row, Table, common

NONE_PUBLISHED = "no published number for this data set"
SPREADS = "KID's ± is the spread over subsets, IS's the spread over splits, and neither is"
WITHOUT_CLASSES = (
    "There is no IS, since the evaluator's network knows no classes. KID's ± is the spread over subsets, not"
)


def markdown(table: Table) -> str:
    """The results, the verdict under them, and the provenance of each row."""
    parts = [results_table(table), verdict_lines(table), "**Where each row comes from**", provenance(table)]
    return "\n\n".join(parts) + "\n"


def results_table(table: Table) -> str:
    """The papers' rows, ours, and the floor, as one Markdown table with notes; then what no paper has."""
    entries: list[columns.Entry] = [*table.published, *table.rows]
    first = columns.markdown_table(columns.result_columns(table), entries)
    return "\n\n".join([first, "\n".join(_notes(table)), *_further(table)])


def _further(table: Table) -> Iterator[str]:
    """Small tables of what no paper's table has, each where some row has it."""
    measured = [row for row in table.rows if row.measured]
    if any(row.value(one.name) is not None for row in measured for one in further()):
        yield columns.markdown_table(columns.further_columns(measured), measured)
        if notes := list(_further_notes(measured)):
            yield "\n".join(notes)
    repeated = [row for row in measured if row.repeated]
    if repeated:
        yield columns.markdown_table(columns.repeat_columns(repeated), repeated)


def _further_notes(measured: Sequence[Row]) -> Iterator[str]:
    """Why a cell of that table is empty, and what its intervals are over."""
    missing: dict[tuple[str, str], list[Row]] = {}
    for one, row in ((one, row) for one in further() for row in measured if row.value(one.name) is None):
        if why := row.estimate(one.name).note:
            missing.setdefault((one.label, why), []).append(row)
    for (label, why), rows in missing.items():
        names = dict.fromkeys(f"`{row.system}`" for row in rows)
        who = "every row" if len(rows) == len(measured) else ", ".join(names)
        yield f"- {label} of {who}: none, {why}."
    if any(row.repeated for row in measured):
        yield (
            f"- Of a repeated row, brackets are {LEVEL:.0%} intervals over training seeds and sampling sets, "
            "as above; those of bits / dim, which uses the same held-out images each time, over training "
            "seeds alone."
        )


def verdict_lines(table: Table) -> str:
    """The computed verdict as a Markdown list."""
    lines = "\n".join(f"- {text}" for text in verdict.sentences(table))
    return f"**Verdict**, computed from the rows above:\n\n{lines}"


def provenance(table: Table) -> str:
    """Provenance of each row; what all rows share is stated once."""
    shared = [
        f"- {title}: {common(table.rows, name)}"
        for title, name in (
            ("Evaluator of every row", "evaluator"),
            ("Reference set", "reference_set"),
            ("Versions", "versions"),
            ("Hardware", "hardware"),
        )
        if common(table.rows, name) is not None
    ]
    shared += [f"- The evaluator's self-test: {table.selftest}"] if table.selftest else []
    shared += [f"- {text}" for text in columns.checkpoint_lines(table)]
    listed = columns.markdown_table(columns.provenance_columns(table), table.rows)
    return "\n\n".join(["\n".join(shared), listed] if shared else [listed])


def to_csv(table: Table) -> str:
    """Every field of every row at full precision; one FID column for each sample count."""
    counts = columns.sample_counts(table)
    cells = [{name: value for name, value in row.cells().items() if name != "not_run"} for row in table.rows]
    fields = [name for name in dict.fromkeys(name for row in cells for name in row) if name != "fid"]
    fids = [f"fid_n{n}" for n in counts]
    out = io.StringIO()
    writer = csv.DictWriter(out, ["kind", "source", *fields, *fids], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_csv_published(paper) for paper in table.published)
    for row, own in zip(table.rows, cells, strict=True):
        values = {name: _plain(value) for name, value in own.items() if name != "fid"}
        fid = {f"fid_n{row.n}": _plain(row.fid)} if row.measured else {}
        writer.writerow({"kind": "floor" if row.is_floor else "ours", "source": "this run", **values, **fid})
    return out.getvalue()


def to_json(table: Table) -> dict[str, Any]:
    """The table as data, with the verdict next to it; `Table.from_json` reads it back."""
    floor = [
        {"system": v.row.system, "denoised": v.row.denoised, "ratio": v.ratio, "within": v.within}
        for v in verdict.against_floor(table)
    ]
    tuned = [{"denoised": v.row.denoised, "holds": v.holds} for v in verdict.against_baseline(table)]
    judged: dict[str, object] = {
        "margin": verdict.MARGIN,
        "against_floor": floor,
        "tuned_against_ncsnv2": tuned,
    }
    papers: list[dict[str, object]] = [
        {"system": v.row.system, "denoised": v.row.denoised, "measure": v.measure, "published": v.published}
        | {"outcome": v.outcome, "interval": v.interval, "reason": v.reason}
        for v in verdict.against_papers(table)
    ]
    judged |= {"paper_margin": table.margin, "alpha": verdict.ALPHA, "against_papers": papers}
    return table.to_json() | {"verdict": judged | {"sentences": verdict.sentences(table)}}


def repetition(table: Table) -> str:
    """How often everything was repeated, and what the intervals are over, in a sentence."""
    counts = {(r.training_seeds, r.sampling_sets) for r in table.rows if r.measured and not r.is_floor}
    if not any(row.repeated for row in table.rows):
        return "One training seed and one sampling set, so that no interval between runs is known."
    most = max(seeds or 1 for seeds, _ in counts)
    sets = max(found or 1 for _, found in counts)
    over = "training seeds and sampling sets" if most > 1 else "sampling sets of one training seed alone"
    few = " at most" if len(counts) > 1 else ""
    return (
        f"Means over{few} {_count(most, 'training seed')} of {_count(sets, 'sampling set')} each, with "
        f"{LEVEL:.0%} intervals over {over}; N is of one set."
    )


def measures_table() -> str:
    """What each measure is, which way is better, and where it was defined."""
    lines = [(one.label, one.better, one.source) for one in measures()]
    return columns.pipe_table(("Measure", "Better", "Defined in"), "lll", lines)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def _notes(table: Table) -> list[str]:
    measured = [row for row in table.rows if row.measured]
    classes = not measured or any(row.value("inception_score") is not None for row in measured)
    seeds = f"{repetition(table)} {SPREADS if classes else WITHOUT_CLASSES} the spread between runs."
    if not table.published:
        return [f"Paper's FID: {NONE_PUBLISHED} ({table.data}). {seeds}"]
    noted = [f"{row.model}: {row.note}" for row in table.published if row.note]
    terms = "; ".join([TERMS[table.published], *noted]) if table.published in TERMS else "; ".join(noted)
    return [f"Papers' cells are quoted as printed, by the papers' own evaluators; {terms}. {seeds}"]


def _plain(value: object) -> str | float:
    """Cell of a CSV line: several values as JSON, None as an empty cell."""
    if isinstance(value, tuple):
        return json.dumps(value, default=dataclasses.asdict)
    assert value is None or isinstance(value, str | float | int)
    return "" if value is None else value


def _csv_published(paper: Published) -> dict[str, str | float]:
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
